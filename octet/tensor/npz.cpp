// SPDX-License-Identifier: Apache-2.0
#include "octet/tensor/npz.h"

#include <memory>
#include <string_view>
#include <vector>

#include <zip.h>

#include "octet/base/error.h"
#include "octet/base/json.h"
#include "octet/base/mapped_file.h"
#include "octet/tensor/npy.h"

namespace octet {
namespace {

struct Discard {
  void operator()(zip_t* archive) const noexcept { zip_discard(archive); }
};
struct Close {
  void operator()(zip_file_t* file) const noexcept { zip_fclose(file); }
};
using Archive = std::unique_ptr<zip_t, Discard>;

Archive open_archive(std::span<const std::byte> bytes, const std::string& source) {
  zip_error_t error;
  zip_error_init(&error);
  Archive archive;
  if (zip_source_t* buffer = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error)) {
    archive.reset(zip_open_from_source(buffer, ZIP_RDONLY | ZIP_CHECKCONS, &error));
    if (archive == nullptr) zip_source_free(buffer);
  }
  const std::string reason = archive == nullptr ? zip_error_strerror(&error) : "";
  zip_error_fini(&error);
  if (archive == nullptr)
    fail<FormatError>("{}: not an npz file ({}). It may be damaged or truncated.", source, reason);
  return archive;
}

}  // namespace

bool is_zip(std::span<const std::byte> bytes) noexcept {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return text.starts_with("PK\x03\x04") || text.starts_with("PK\x05\x06");
}

std::map<std::string, Tensor> parse_npz(std::span<const std::byte> bytes, const std::string& source, int64_t limit) {
  // To libzip an empty file is an empty archive.
  if (!is_zip(bytes)) fail<FormatError>("{}: not an npz file", source);
  const Archive archive = open_archive(bytes, source);
  std::map<std::string, Tensor> arrays;
  uint64_t left = static_cast<uint64_t>(limit);
  const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < count; ++i) {
    const auto index = static_cast<zip_uint64_t>(i);
    zip_stat_t entry;
    constexpr zip_uint64_t kNeeded = ZIP_STAT_NAME | ZIP_STAT_SIZE;
    if (zip_stat_index(archive.get(), index, 0, &entry) != 0 || (entry.valid & kNeeded) != kNeeded) {
      fail<FormatError>("{}: entry {}: {}", source, i, zip_strerror(archive.get()));
    }
    std::string_view name = entry.name;
    const std::string where = fmt::format("{}, {}", source, quote_name(name));
    if (!name.ends_with(".npy")) fail<FormatError>("{}: not an npy file; an npz file holds nothing else", where);
    name.remove_suffix(std::string_view(".npy").size());
    if (entry.size > left) fail<FormatError>("{}: the arrays take more than {} bytes", where, limit);
    left -= entry.size;

    const std::unique_ptr<zip_file_t, Close> file(zip_fopen_index(archive.get(), index, 0));
    if (file == nullptr) fail<FormatError>("{}: {}", where, zip_strerror(archive.get()));
    std::vector<std::byte> content(entry.size);
    // A read that ends early, or whose checksum is another, is a negative or smaller count.
    std::byte end_of_file{};
    if (std::cmp_not_equal(zip_fread(file.get(), content.data(), content.size()), content.size()) ||
        zip_fread(file.get(), &end_of_file, 1) != 0) {
      fail<FormatError>("{}: {}. The file is damaged.", where, zip_file_strerror(file.get()));
    }
    if (!arrays.emplace(name, parse_npy(content, where)).second) fail<FormatError>("{}: is there twice", where);
  }
  return arrays;
}

std::map<std::string, Tensor> read_npz(const std::filesystem::path& path, int64_t limit) {
  return parse_npz(MappedFile::open(path)->bytes(), path.string(), limit);
}

}  // namespace octet
