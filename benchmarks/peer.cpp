#include "peer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "winnow/core/error.h"

namespace winnow::bench {
namespace {

// The environment's python, made on first use by environment.sh, which prints its path last.
std::string python_of_peers(const std::vector<std::string>& packages) {
  const std::string command = fmt::format("bash benchmarks/peers/environment.sh {}", fmt::join(packages, " "));
  std::FILE* pipe = popen(command.c_str(), "r");
  WINNOW_CHECK_KIND(pipe != nullptr, ErrorKind::file, "Peer: cannot run '{}'", command);
  std::string last;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe) != nullptr) {
    last = line;
  }
  WINNOW_CHECK_KIND(pclose(pipe) == 0, ErrorKind::file, "Peer: '{}' failed; run it from the top folder with a network",
                    command);
  while (!last.empty() && last.back() == '\n') {
    last.pop_back();
  }
  return last;
}

}  // namespace

Peer::Peer(const std::string& script, const std::vector<std::string>& packages,
           const std::vector<std::string>& arguments)
    : script_(script) {
  const std::string python = python_of_peers(packages);
  std::vector<std::string> words = {python, "benchmarks/peers/" + script};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (auto& word : words) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);
  int down[2], up[2];
  WINNOW_CHECK_KIND(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0, ErrorKind::file, "Peer: no pipe for {}",
                    script);
  process_ = fork();
  WINNOW_CHECK_KIND(process_ >= 0, ErrorKind::file, "Peer: no process for {}", script);
  if (process_ == 0) {
    dup2(down[0], STDIN_FILENO);
    dup2(up[1], STDOUT_FILENO);
    close(down[1]);
    close(up[0]);
    execv(pointers[0], pointers.data());
    _exit(127);
  }
  close(down[0]);
  close(up[1]);
  to_ = fdopen(down[1], "w");
  from_ = fdopen(up[0], "r");
  const auto first = ask("");
  WINNOW_CHECK_KIND(first == "ready", ErrorKind::file, "Peer: {} must print 'ready', got '{}'", script, first);
}

Peer::~Peer() {
  if (to_ != nullptr) {
    std::fclose(to_);
  }
  if (from_ != nullptr) {
    std::fclose(from_);
  }
  if (process_ > 0) {
    waitpid(process_, nullptr, 0);
  }
}

std::string Peer::ask(const std::string& line) {
  if (!line.empty()) {
    std::fputs((line + "\n").c_str(), to_);
    std::fflush(to_);
  }
  char buffer[4096];
  WINNOW_CHECK_KIND(std::fgets(buffer, sizeof buffer, from_) != nullptr, ErrorKind::file, "Peer: {} ended early",
                    script_);
  std::string answer = buffer;
  while (!answer.empty() && answer.back() == '\n') {
    answer.pop_back();
  }
  return answer;
}

double Peer::run(int64_t calls) {
  return std::strtod(ask(fmt::format("run {}", calls)).c_str(), nullptr);
}

void Peer::set_threads(int64_t threads) {
  ask(fmt::format("threads {}", threads));
}

}  // namespace winnow::bench
