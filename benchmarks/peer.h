// Another package on the same work: a Python script beside us that is timed in turn with our side, sample by sample.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace winnow::bench {

// A running peer. The script gets `arguments`, prints "ready" and then answers lines on its standard input:
// "threads N" -> "ok"; "run N" -> seconds of N calls; anything else is its own. It ends when its input closes.
class Peer {
 public:
  // Starts benchmarks/peers/SCRIPT in the peers' own environment (benchmarks/peers/environment.sh PACKAGE..., made on
  // first use). Throws winnow::Error if the environment cannot be made or the script does not get ready.
  Peer(const std::string& script, const std::vector<std::string>& packages, const std::vector<std::string>& arguments);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // Sends a line and returns the line that comes back. Throws winnow::Error when the peer has died.
  std::string ask(const std::string& line);
  // Seconds that the peer measured for these calls of its work.
  double run(int64_t calls);
  void set_threads(int64_t threads);

 private:
  std::string script_;
  pid_t process_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

}  // namespace winnow::bench
