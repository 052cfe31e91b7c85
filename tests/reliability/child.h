// A process under test: started with a configuration, watched through its output, signalled, waited for.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace winnow::reliability {

struct Ending {
  int exit_code = -1;  // -1 if a signal ended it
  int signal = 0;      // that ended it
  std::string out;     // standard output
  std::string err;     // standard error
};

class Child {
 public:
  // file_limit: the largest file the process may write, in bytes (a write past it fails as on a full disk); 0: none.
  Child(const std::vector<std::string>& command, rlim_t file_limit = 0);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Reads its output until this word has come; false if it ended before.
  bool wait_for(const std::string& word);
  void send(int signal) const;
  Ending wait();  // reads the rest and waits for the end

 private:
  bool read_some();

  pid_t process_ = -1;
  int out_ = -1, err_ = -1;
  Ending ending_;
};

// The command to its end.
Ending run(const std::vector<std::string>& command, rlim_t file_limit = 0);

}  // namespace winnow::reliability
