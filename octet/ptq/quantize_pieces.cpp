// SPDX-License-Identifier: Apache-2.0
#include "octet/ptq/quantize_pieces.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <utility>

#include "octet/base/error.h"
#include "octet/base/mapped_file.h"

namespace octet {
namespace {

std::string piece_file(int64_t piece) { return fmt::format(".octet_piece_{:05}.safetensors", piece); }

// Two take turns: while one is written, the one before it is whole.
std::string states_file(int64_t piece) { return fmt::format(".octet_hidden_states_{}", piece % 2); }

// Before which piece the stream can go on, and the states of which file it does so with.
struct Place {
  int64_t piece = 0;
  std::string states = {};
};

// All pieces before it are finished.
Place last_place(const ResumableDirectory& directory, int64_t pieces) {
  int64_t finished = 0;
  while (finished < pieces && directory.finished(piece_file(finished))) ++finished;
  if (finished == pieces) return {.piece = pieces};
  Place place;
  for (const int64_t turn : {0, 1}) {
    const std::optional<std::string> note = directory.finished(states_file(turn));
    int64_t piece = 0;
    if (!note || std::from_chars(note->data(), note->data() + note->size(), piece).ec != std::errc()) continue;
    if (piece <= finished && piece > place.piece) place = {piece, states_file(turn)};
  }
  return place;
}

void write_states(ResumableDirectory& directory, int64_t piece, std::span<const float> states) {
  const std::string name = states_file(piece);
  directory.discard(name);
  OutputFile file(directory.path() / name);
  file.write(std::as_bytes(states));
  file.commit();
  directory.finish(name, std::to_string(piece));
}

std::vector<float> read_states(const std::filesystem::path& path) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const auto* first = reinterpret_cast<const float*>(file->bytes().data());
  const size_t count = file->bytes().size() / sizeof(float);
  return {first, first + count};
}

}  // namespace

QuantizedPieces quantize_pieces(const Checkpoint& checkpoint, const Recipe& recipe,
                                std::map<std::string, LayerTarget> targets, const CalibrationData& data,
                                ResumableDirectory& directory, const CpuBackendOptions& cpu,
                                const std::function<void(int64_t done, int64_t total)>& advance) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(cpu);
  const std::unique_ptr<Model> model = load_model(checkpoint, nullptr);
  PieceQuantizer quantizer(checkpoint, recipe, std::move(targets), *model, *backend);
  const int64_t pieces = model->pieces(), samples = data.samples.sequences();
  int64_t done = 0, total = 0;
  for (int64_t i = 0; i < pieces; ++i) total += quantizer.passes(i, samples) * samples;
  const auto count = [&](int64_t more) {
    done += more;
    if (advance) advance(done, total);
  };

  QuantizedPieces result;
  const Place place = last_place(directory, pieces);
  for (int64_t i = 0; i < place.piece; ++i) {
    result.add(directory.path() / piece_file(i), *directory.finished(piece_file(i)));
    count(quantizer.passes(i, samples) * samples);
  }
  if (place.piece == pieces) return result;
  BlockStream stream(*model, *backend, data.samples, count);
  // The embedding is laid out for what it makes of tokens; what is tied to it needs that as well.
  if (place.piece > 0) {
    model->prepare_piece(*backend, 0, Sources::kKept);
    stream.resume(place.piece, read_states(directory.path() / place.states));
  }
  while (!stream.done()) {
    const int64_t piece = stream.piece();
    const std::string name = piece_file(piece);
    PieceResult made = quantizer.quantize(stream);
    const std::string note = QuantizedPieces::write(directory.path() / name, std::move(made));
    directory.finish(name, note);
    if (!stream.done()) write_states(directory, piece + 1, stream.hidden_states());
    result.add(directory.path() / name, note);
  }
  return result;
}

}  // namespace octet
