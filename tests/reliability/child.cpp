#include "child.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>

namespace winnow::reliability {

Child::Child(const std::vector<std::string>& command, rlim_t file_limit) {
  int out[2], err[2];
  if (::pipe(out) != 0 || ::pipe(err) != 0) throw std::runtime_error("no pipe");
  std::vector<char*> arguments;
  for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  process_ = ::fork();
  if (process_ == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    for (const int end : {out[0], out[1], err[0], err[1]}) ::close(end);
    if (file_limit > 0) {
      const rlimit limit{file_limit, file_limit};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      ::signal(SIGXFSZ, SIG_IGN);  // kept over exec: the write fails with EFBIG instead
    }
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(out[1]);
  ::close(err[1]);
  out_ = out[0];
  err_ = err[0];
}

Child::~Child() {
  if (process_ > 0) {
    send(SIGKILL);
    wait();
  }
}

bool Child::read_some() {
  pollfd files[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
  if (out_ < 0 && err_ < 0) return false;
  if (::poll(files, 2, -1) < 0) return true;  // interrupted
  char buffer[4096];
  for (auto& [file, text] : {std::pair<int&, std::string&>{out_, ending_.out}, {err_, ending_.err}}) {
    const auto events = files[&file == &out_ ? 0 : 1].revents;
    if (file < 0 || events == 0) continue;
    const auto count = ::read(file, buffer, sizeof(buffer));
    if (count > 0) {
      text.append(buffer, static_cast<size_t>(count));
    } else {
      ::close(file);
      file = -1;
    }
  }
  return true;
}

bool Child::wait_for(const std::string& word) {
  while (ending_.out.find(word) == std::string::npos) {
    if (!read_some()) return false;
  }
  return true;
}

void Child::send(int signal) const {
  ::kill(process_, signal);
}

Ending Child::wait() {
  while (read_some()) {
  }
  int status = 0;
  ::waitpid(process_, &status, 0);
  process_ = -1;
  if (WIFEXITED(status)) ending_.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) ending_.signal = WTERMSIG(status);
  return ending_;
}

Ending run(const std::vector<std::string>& command, rlim_t file_limit) {
  return Child(command, file_limit).wait();
}

}  // namespace winnow::reliability
