// Any text as a chat template: it renders a conversation within its limits, or there is one winnow::Error.
#include <cstdint>
#include <string_view>

#include "winnow/core/error.h"
#include "winnow/io/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const winnow::io::ChatTemplate chat(text, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    (void)chat.render({{.role = "system", .content = "s"}, {.role = "user", .content = "Hi \xc3\xa9"}});
  } catch (const winnow::Error&) {
  }
  return 0;
}
