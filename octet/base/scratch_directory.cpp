// SPDX-License-Identifier: Apache-2.0
#include "octet/base/scratch_directory.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "octet/base/error.h"

namespace octet {

namespace fs = std::filesystem;

ScratchDirectory::ScratchDirectory(const fs::path& parent) {
  std::string name = (parent / ".octet_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    fail("{}: cannot make a folder here: {}", parent.empty() ? "." : parent.string(), std::strerror(errno));
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace octet
