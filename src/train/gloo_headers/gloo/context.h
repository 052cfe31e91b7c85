// The names of Gloo that LibTorch's ProcessGroupGloo.hpp mentions. LibTorch carries Gloo inside libtorch_cpu, but its
// packages leave out Gloo's headers. Nothing here is constructed or called by winnow: the group is made and run by the
// compiled code in LibTorch, and only pointers to these types lie in its objects. Real headers in reach come first.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

namespace rendezvous {
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(const std::string& key, const std::vector<char>& data) = 0;
  virtual std::vector<char> get(const std::string& key) = 0;
  virtual void wait(const std::vector<std::string>& keys) = 0;
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) = 0;
};
}  // namespace rendezvous

}  // namespace gloo
