// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/base/error.h"
#include "octet/base/progress.h"
#include "octet/tensor/npy.h"

namespace octet::cli {
namespace {

struct LogitsOptions : ModelOptions {
  std::string ids, out;
  std::optional<std::string> mask, type_ids;
};

// How many tokens run at once: their activations take about 20 KB each in a model like MiniLM.
constexpr int64_t kTokensPerBatch = 4096;

// The outputs [batch, labels], or [batch, seq, columns] with rows of kept tokens in their places and zeros elsewhere.
Tensor outputs_of(Session& session, const TokenBatch& batch, int64_t seq) {
  const bool per_token = session.model().info().output != OutputKind::kSequenceLogits;
  Progress progress("running", batch.sequences(), "sequences");
  Tensor out;
  for (int64_t first = 0, last = 0; first < batch.sequences(); first = last) {
    for (int64_t tokens = 0; last < batch.sequences() && tokens < kTokensPerBatch; ++last) {
      tokens += batch.offsets[static_cast<size_t>(last) + 1] - batch.offsets[static_cast<size_t>(last)];
    }
    const TokenBatch part = batch.slice(first, last);
    const Tensor rows = session.run(part);
    const int64_t columns = rows.shape()[1];
    if (first == 0)
      out = per_token ? Tensor(DType::kF32, {batch.sequences(), seq, columns})
                      : Tensor(DType::kF32, {batch.sequences(), columns});
    const auto place = [&](int64_t row, int64_t to) {
      std::copy_n(rows.as<float>().begin() + row * columns, columns, out.mutable_as<float>().begin() + to * columns);
    };
    for (int64_t b = 0; b < part.sequences(); ++b) {
      if (!per_token) {
        place(b, first + b);
        continue;
      }
      for (int64_t t = part.offsets[static_cast<size_t>(b)]; t < part.offsets[static_cast<size_t>(b) + 1]; ++t) {
        place(t, (first + b) * seq + part.positions[static_cast<size_t>(t)]);
      }
    }
    progress.advance(last - first);
  }
  return out;
}

void run(const LogitsOptions& options) {
  const Tensor ids = read_npy(options.ids);
  const std::optional<Tensor> mask = options.mask ? std::optional(read_npy(*options.mask)) : std::nullopt;
  const std::optional<Tensor> type_ids = options.type_ids ? std::optional(read_npy(*options.type_ids)) : std::nullopt;
  const TokenBatch batch = TokenBatch::from_matrix(ids, mask ? &*mask : nullptr, type_ids ? &*type_ids : nullptr);
  Session session = open_session(options);
  if (batch.sequences() == 0) fail("{}: holds no sequence", options.ids);
  session.model().check_inputs(batch);
  const Tensor output = outputs_of(session, batch, ids.shape()[1]);
  if (!std::ranges::all_of(output.as<float>(), [](float x) { return std::isfinite(x); })) {
    warn("the outputs hold NaN or infinity; the weights may be damaged");
  }
  write_npy(options.out, output.view());
  if (options.json) {
    print_json({{"shape", output.shape().extents()}, {"tokens", batch.tokens()}, {"file", options.out}});
  } else {
    fmt::print("{} fp32 → {}\n", to_string(output.shape()), options.out);
  }
}

}  // namespace

void add_logits(Program& program) {
  auto options = std::make_shared<LogitsOptions>();
  Command command =
      program.add_subcommand("logits", "Write raw fp32 outputs for given token ids, to check against other software");
  options->add_to(command);
  command.add_option("--ids", options->ids, "Token ids, int32 [batch, seq]").required().type_name("FILE.npy");
  command.add_option("--mask", options->mask, "1 for tokens to keep, 0 for padding, [batch, seq]")
      .type_name("FILE.npy");
  command.add_option("--type-ids", options->type_ids, "Token type ids, [batch, seq] (default: 0)")
      .type_name("FILE.npy");
  command
      .add_option("--out", options->out,
                  "The outputs: [batch, labels], or [batch, seq, columns] with zeros where the mask is 0; the last "
                  "hidden state where "
                  "the model has no head")
      .required()
      .type_name("FILE.npy");
  command.footer(
      "Examples:\n  octet logits minilm --ids ids.npy --mask mask.npy --out hidden.npy\n  octet logits minilm --ids "
      "ids.npy --recipe w8a16 --out hidden.npy");
  command.callback([options] { run(*options); });
}

}  // namespace octet::cli
