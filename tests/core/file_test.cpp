#include "winnow/core/file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>

#include "support/error.h"
#include "support/temporary_folder.h"
#include "winnow/core/atomic_file.h"

namespace winnow {
namespace {

using testing::TemporaryFolder;

std::string content(const std::string& path) {
  return read_file(path);
}

TEST(AtomicFileTest, AppearsWholeAtCommitAndNotBefore) {
  const TemporaryFolder folder;
  const auto path = folder / "a.txt";
  AtomicFile file(path);
  file.write("one ");
  file.write("two");
  EXPECT_EQ(file.size(), 7);
  EXPECT_FALSE(std::filesystem::exists(path));
  file.commit();
  EXPECT_EQ(content(path), "one two");
  EXPECT_EQ(folder.entries(), 1);
  EXPECT_ERROR(file.write("x"), "AtomicFile::write: " + path + " is committed already");
  EXPECT_ERROR(file.commit(), "AtomicFile::commit: " + path + " is committed already");
}

TEST(AtomicFileTest, WithoutCommitNothingIsLeftAndTheOlderFileStays) {
  const TemporaryFolder folder;
  const auto path = folder / "a.txt";
  write_file(path, "older");
  {
    AtomicFile(path).write("newer");
  }
  EXPECT_EQ(content(path), "older");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(AtomicFileTest, LargeAndSmallWritesKeepTheirOrder) {
  const TemporaryFolder folder;
  std::string expected;
  AtomicFile file(folder / "a");
  for (size_t i = 0; i < 40; ++i) {
    const std::string piece(i * i * 97 % 70'000, static_cast<char>('a' + i % 26));
    file.write(piece);
    expected += piece;
  }
  file.write_at(3, "HEAD", 4);
  expected.replace(3, 4, "HEAD");
  file.write("end");
  file.commit();
  EXPECT_EQ(content(folder / "a"), expected + "end");
}

TEST(AtomicFileTest, WriteAtStaysWithinWhatIsWritten) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "a");
  file.write("12345");
  EXPECT_ERROR(file.write_at(3, "abc", 3), "AtomicFile::write_at: [3, 6) must lie within the 5 bytes written");
  EXPECT_ERROR(file.write_at(-1, "a", 1), "AtomicFile::write_at: [-1, 0) must lie within the 5 bytes written");
  EXPECT_NO_THROW(file.write_at(5, "", 0));
}

TEST(AtomicFileTest, ANewFileGetsTheUmaskAndAReplacedOneKeepsItsMode) {
  const TemporaryFolder folder;
  const auto mode = [](const std::string& path) {
    struct stat status = {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_mode & 0777;
  };
  const auto before = ::umask(027);
  write_file(folder / "a", "1");
  EXPECT_EQ(mode(folder / "a"), 0640u);
  ASSERT_EQ(::chmod((folder / "a").c_str(), 0604), 0);
  write_file(folder / "a", "2");
  EXPECT_EQ(mode(folder / "a"), 0604u);
  ::umask(before);
}

TEST(AtomicFileTest, ASymbolicLinkIsFollowed) {
  const TemporaryFolder folder;
  write_file(folder / "real", "1");
  std::filesystem::create_symlink("real", folder / "link");
  std::filesystem::create_symlink(folder / "new", folder / "dangling");
  write_file(folder / "link", "2");
  write_file(folder / "dangling", "3");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(content(folder / "real"), "2");
  EXPECT_EQ(content(folder / "new"), "3");
}

TEST(AtomicFileTest, EachBadTargetIsOneClearError) {
  const TemporaryFolder folder;
  const auto expect = [](const std::string& path, const std::string& message) {
    EXPECT_ERROR_KIND(AtomicFile{path}, ErrorKind::file, message);
  };
  expect(folder.path(), folder.string() + ": cannot write: Is a directory");
  expect(folder / "no/such/a", (folder / "no/such/a") + ": cannot create: No such file or directory");
  const std::string long_name(300, 'n');
  expect(folder / long_name, ": cannot write: File name too long");
  expect("/dev/null", "/dev/null: cannot write: not a regular file");
  expect("", "cannot write: the file name is empty");
  write_file(folder / "file", "");
  expect(folder / "file/a", (folder / "file/a") + ": cannot write: Not a directory");
  EXPECT_NO_THROW(write_file(folder / std::string(255, 'n'), ""));  // the longest name that Linux has
}

TEST(AtomicFileTest, AnUnwritableFolderIsAnErrorAndKeepsItsFile) {
  const TemporaryFolder folder;
  write_file(folder / "a", "older");
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  const auto root = ::geteuid() == 0;
  if (root) ASSERT_EQ(::seteuid(65534), 0);  // root may write everywhere
  EXPECT_ERROR_KIND(write_file(folder / "a", "newer"), ErrorKind::file,
                    (folder / "a") + ": cannot create: Permission denied");
  if (root) ASSERT_EQ(::seteuid(0), 0);
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  EXPECT_EQ(content(folder / "a"), "older");
  EXPECT_EQ(folder.entries(), 1);
}

// A limit on file sizes fails a write in the middle, as a full disk does, and needs no privilege.
TEST(AtomicFileTest, AWriteThatFailsHalfwayLeavesTheOlderFileAlone) {
  const TemporaryFolder folder;
  write_file(folder / "a", "older");
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto limit = rlimit{.rlim_cur = 100'000, .rlim_max = before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_ERROR_KIND(write_file(folder / "a", std::string(200'000, 'x')), ErrorKind::file,
                    (folder / "a") + ": cannot write: File too large");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(content(folder / "a"), "older");
  EXPECT_EQ(folder.entries(), 1);
}

TEST(AtomicFileTest, AFullDiskLeavesTheOlderFileAlone) {
  const TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "no right to mount a small disk";
  }
  write_file(folder / "a", "older");
  EXPECT_ERROR_KIND(write_file(folder / "a", std::string(1 << 20, 'x')), ErrorKind::file,
                    (folder / "a") + ": cannot write: No space left on device");
  EXPECT_EQ(content(folder / "a"), "older");
  EXPECT_EQ(folder.entries(), 1);
  EXPECT_NO_THROW(write_file(folder / "a", std::string(100'000, 'y')));  // the space came back
  ::umount(folder.path().c_str());
}

TEST(AtomicFileTest, WhatAKilledProcessLeftIsRemovedAndNothingElse) {
  const TemporaryFolder folder;
  const auto child = ::fork();
  if (child == 0) {
    auto* abandoned = new AtomicFile(folder / "a");
    abandoned->write("half");
    ::_exit(0);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  AtomicFile alive(folder / "b");
  write_file(folder / ".winnow-notes.tmp", "");
  EXPECT_EQ(folder.entries(), 3);
  EXPECT_EQ(remove_stale_temporaries(folder.path()), 1);
  EXPECT_EQ(folder.entries(), 2);
  alive.commit();
  EXPECT_EQ(remove_stale_temporaries(folder / "absent"), 0);
}

TEST(ReadFile, GivesTheBytesUpToALimit) {
  const TemporaryFolder folder;
  const std::string bytes("a\0b\n", 4);
  write_file(folder / "a", bytes);
  write_file(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "a"), bytes);
  EXPECT_EQ(read_file(folder / "a", 4), bytes);
  EXPECT_EQ(read_file(folder / "empty", 0), "");
  EXPECT_ERROR_KIND(read_file(folder / "a", 3), ErrorKind::file, (folder / "a") + ": longer than 3 B");
  EXPECT_ERROR_KIND(read_file(folder.path()), ErrorKind::file, folder.string() + ": cannot read: Is a directory");
  EXPECT_ERROR_KIND(read_file(folder / "b"), ErrorKind::file,
                    (folder / "b") + ": cannot open: No such file or directory");
  EXPECT_ERROR_KIND(read_file("/dev/zero", 10'000), ErrorKind::file, "/dev/zero: longer than 9.8 KiB");
  EXPECT_NE(read_file("/proc/self/status").find("Pid:"), std::string::npos);  // has no size of its own
}

TEST(MappedFileTest, ShowsTheBytesAlsoAfterTheFileIsReplacedOrGone) {
  const TemporaryFolder folder;
  write_file(folder / "a", "first");
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.size(), 5);
  EXPECT_EQ(file.text(), "first");
  EXPECT_EQ(file.path(), folder / "a");
  write_file(folder / "a", "second!");
  std::filesystem::remove(folder / "a");
  EXPECT_EQ(file.text(), "first");
}

TEST(MappedFileTest, AnEmptyFileIsAnEmptyView) {
  const TemporaryFolder folder;
  write_file(folder / "a", "");
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.size(), 0);
  EXPECT_TRUE(file.text().empty());
}

TEST(MappedFileTest, MovesLikeAValue) {
  const TemporaryFolder folder;
  write_file(folder / "a", "aa");
  write_file(folder / "b", "bb");
  MappedFile a(folder / "a"), b(folder / "b");
  a = std::move(b);
  EXPECT_EQ(a.text(), "bb");
  const MappedFile c(std::move(a));
  EXPECT_EQ(c.text(), "bb");
}

TEST(MappedFileTest, EachBadFileIsOneClearError) {
  const TemporaryFolder folder;
  EXPECT_ERROR_KIND(MappedFile(folder / "a"), ErrorKind::file,
                    (folder / "a") + ": cannot open: No such file or directory");
  EXPECT_ERROR_KIND(MappedFile(folder.path()), ErrorKind::file, folder.string() + ": cannot read: Is a directory");
  EXPECT_ERROR_KIND(MappedFile("/dev/null"), ErrorKind::file, "/dev/null: is not a regular file");
}

TEST(EnsureDirectory, MakesTheWholeChainAndAcceptsWhatExists) {
  const TemporaryFolder folder;
  ensure_directory(folder / "a/b/c");
  ensure_directory(folder / "a/b/c/");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b/c"));
  write_file(folder / "file", "");
  EXPECT_ERROR_KIND(ensure_directory(folder / "file"), ErrorKind::file,
                    (folder / "file") + ": cannot make the folder: Not a directory");
  EXPECT_ERROR_KIND(ensure_directory(folder / "file/x"), ErrorKind::file,
                    (folder / "file/x") + ": cannot make the folder: Not a directory");
}

}  // namespace
}  // namespace winnow
