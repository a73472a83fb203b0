// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "apps/octet/commands.h"
#include "apps/octet/options.h"
#include "octet/io/npy.h"

namespace octet::cli {
namespace {

struct LogitsOptions : ModelOptions {
  std::string ids, out;
  std::optional<std::string> mask, type_ids;
};

// Rows of kept tokens to their places in [batch, seq, columns]; zeros where the mask is.
Tensor scatter(const Tensor& rows, const TokenBatch& batch, int64_t seq) {
  const int64_t columns = rows.shape()[1];
  Tensor out(DType::kF32, {batch.sequences(), seq, columns});
  for (int64_t b = 0; b < batch.sequences(); ++b) {
    for (int64_t t = batch.offsets[static_cast<size_t>(b)]; t < batch.offsets[static_cast<size_t>(b) + 1]; ++t) {
      const int64_t place = b * seq + batch.positions[static_cast<size_t>(t)];
      std::copy_n(rows.as<float>().begin() + t * columns, columns, out.mutable_as<float>().begin() + place * columns);
    }
  }
  return out;
}

void run(const LogitsOptions& options) {
  const Tensor ids = read_npy(options.ids);
  const std::optional<Tensor> mask = options.mask ? std::optional(read_npy(*options.mask)) : std::nullopt;
  const std::optional<Tensor> type_ids = options.type_ids ? std::optional(read_npy(*options.type_ids)) : std::nullopt;
  const TokenBatch batch = TokenBatch::from_matrix(ids, mask ? &*mask : nullptr, type_ids ? &*type_ids : nullptr);
  Session session = open_session(options);
  Tensor output = session.run(batch);
  if (session.model().info().output != OutputKind::kSequenceLogits) output = scatter(output, batch, ids.shape()[1]);
  write_npy(options.out, output.view());
  if (options.json) {
    print_json({{"shape", output.shape().extents()}, {"tokens", batch.tokens()}, {"file", options.out}});
  } else {
    fmt::print("{} fp32 → {}\n", to_string(output.shape()), options.out);
  }
}

}  // namespace

void add_logits(CLI::App& app) {
  auto options = std::make_shared<LogitsOptions>();
  CLI::App* command =
      app.add_subcommand("logits", "Write raw fp32 outputs for given token ids, to check against other software");
  options->add_to(*command);
  command->add_option("--ids", options->ids, "Token ids, int32 [batch, seq]")->required()->type_name("FILE.npy");
  command->add_option("--mask", options->mask, "1 for tokens to keep, 0 for padding, [batch, seq]")
      ->type_name("FILE.npy");
  command->add_option("--type-ids", options->type_ids, "Token type ids, [batch, seq] (default: 0)")
      ->type_name("FILE.npy");
  command
      ->add_option("--out", options->out,
                   "The outputs: [batch, labels], or [batch, seq, columns] with zeros where the mask is 0; the last "
                   "hidden state where "
                   "the model has no head")
      ->required()
      ->type_name("FILE.npy");
  command->footer(
      "Examples:\n  octet logits minilm --ids ids.npy --mask mask.npy --out hidden.npy\n  octet logits minilm --ids "
      "ids.npy --recipe w8a16 --out hidden.npy");
  command->callback([options] { run(*options); });
}

}  // namespace octet::cli
