// The version of winnow.
#pragma once

namespace winnow {

// "MAJOR.MINOR.PATCH" of the library that is linked.
const char* version();

}  // namespace winnow
