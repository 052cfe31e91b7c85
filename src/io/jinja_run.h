// Runs a template.
#pragma once

#include <string>
#include <vector>

#include "jinja_tree.h"

namespace winnow::io::jinja {

// The text of the template with these variables. Throws Error(argument) where the template calls raise_exception,
// Error(file) naming `name` and the line where it fails or takes too long.
std::string run(const std::vector<NodePtr>& statements, Dict variables, const std::string& name);

}  // namespace winnow::io::jinja
