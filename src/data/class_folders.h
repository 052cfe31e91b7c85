// Folders whose sub-folders are classes. Inside src/data only.
#pragma once

#include <string>
#include <vector>

namespace winnow::data {

struct ClassFolder {
  std::string name;
  std::vector<std::string> files;  // pictures, sorted paths
};

// The class folders of `folder` in sorted order, or those named. Throws winnow::Error (file) if `folder` or a named
// class is missing; `hint` says what to do then.
std::vector<ClassFolder> list_class_folders(const std::string& folder, const std::vector<std::string>& classes,
                                            const std::string& hint);

}  // namespace winnow::data
