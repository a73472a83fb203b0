// SPDX-License-Identifier: Apache-2.0
#include "octet/models/session.h"

namespace octet {

Session::Session(const std::filesystem::path& directory, LoadOptions options)
    : checkpoint_(Checkpoint::open(directory)),
      backend_(make_cpu_backend(options.cpu)),
      workspace_(*backend_),
      model_(load_model(checkpoint_, options.recipe ? &*options.recipe : nullptr)) {
  model_->prepare(*backend_);
}

Tensor Session::run(const TokenBatch& batch) {
  const Workspace::Scope scope(workspace_);
  Context context = this->context();
  const Activation output = model_->forward(context, upload(context, batch));
  Tensor result(DType::kF32, {output.rows, output.cols});
  backend_->download(output, result.mutable_as<float>());
  return result;
}

}  // namespace octet
