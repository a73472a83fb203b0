# SPDX-License-Identifier: Apache-2.0
"""The engines that encoder.py races. Each function prepares one: it gives a forward from the ids, known to it, to the
last hidden state [batch, seq, width], or says what is Missing. All quantize linear layers only, but for OpenVINO, whose
quantizer decides by itself."""

import json
import logging
import zlib

import encoder_graph
from contest import Missing, convert_for_ctranslate2, kept, need


def stem(options):
    return f"{options.model.resolve().name}-{'masked' if options.mask else 'unmasked'}"


def onnx_graph(options):
    need("onnx", "safetensors", "torch")
    path = options.work / f"{stem(options)}-fp32.onnx"
    return kept(path, options, encoder_graph.__file__,
                lambda unfinished: encoder_graph.export(options.model, options.mask, unfinished))


def onnx_graph_int8(options, weights):
    """Weights s8 or u8, one scale a column; activations u8 with one scale a product, chosen at run time."""
    onnx, quantization = need("onnx", "onnxruntime.quantization")

    def make(unfinished):
        # Types behind the nodes of com.microsoft, which ONNX's shape inference does not know, are float.
        logging.disable(logging.WARNING)
        kinds = {"s8": quantization.QuantType.QInt8, "u8": quantization.QuantType.QUInt8}
        quantization.quantize_dynamic(onnx_graph(options), unfinished, op_types_to_quantize=["MatMul", "Gemm"],
                                      per_channel=True, weight_type=kinds[weights],
                                      extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})

    return kept(options.work / f"{stem(options)}-int8-{weights}.onnx", options, __file__, make)


def onnx_inputs(options, ids):
    import numpy as np

    ids = ids.astype(np.int64)
    return {"input_ids": ids} | ({"attention_mask": np.ones_like(ids)} if options.mask else {})


def onnxruntime(options, ids, weights):
    onnxruntime = need("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = 3
    graph = onnx_graph_int8(options, weights) if weights else onnx_graph(options)
    session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
    inputs = onnx_inputs(options, ids)
    return lambda: session.run(None, inputs)[0]


def openvino_model_int8(options, ids):
    """NNCF's post-training quantization: s8 weights a column, u8 or s8 activations with scales fixed beforehand. It is
    calibrated on the very inputs that are measured. (After `compress_weights` products stay fp32 with AVX2.)"""
    nncf, openvino = need("nncf", "openvino")

    def make(folder):
        folder.mkdir()
        nncf.set_log_level(logging.ERROR)
        samples = nncf.Dataset([ids[i : i + 1] for i in range(len(ids))], lambda one: onnx_inputs(options, one))
        model = openvino.Core().read_model(onnx_graph(options))
        quantized = nncf.quantize(model, samples, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(ids))
        openvino.save_model(quantized, folder / "model.xml", compress_to_fp16=False)

    name = f"{stem(options)}-openvino-int8-{zlib.crc32(ids.tobytes()):08x}"
    return kept(options.work / name, options, __file__, make) / "model.xml"


def openvino(options, ids, int8):
    openvino = need("openvino")
    path = openvino_model_int8(options, ids) if int8 else onnx_graph(options)
    # The hint is about what is not quantized: no bf16 where there is AMX.
    settings = {"INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    inputs = onnx_inputs(options, ids)
    return lambda: request.infer(inputs)["last_hidden_state"].copy()


def ctranslate2(options, ids, compute_type):
    """Its int8: s8 weights a column, activations a row, shifted to u8 for the product where that is faster."""
    import numpy as np

    ctranslate2 = need("ctranslate2", "transformers", "torch")[0]
    path = options.work / f"{options.model.resolve().name}-ctranslate2"
    kept(path, options, __file__, lambda folder: convert_for_ctranslate2(options.model, folder))
    encoder = ctranslate2.Encoder(str(path), device="cpu", compute_type=compute_type, inter_threads=1,
                                  intra_threads=options.threads)
    inputs = ctranslate2.StorageView.from_array(ids)
    lengths = ctranslate2.StorageView.from_array(np.full(len(ids), ids.shape[1], np.int32))
    return lambda: np.array(encoder.forward_batch(inputs, lengths).last_hidden_state)


def pytorch(options, ids, int8):
    """Its int8: s8 weights a column, u8 activations with one scale a product, of which it uses 7 bits."""
    torch, transformers = need("torch", "transformers")
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.BertModel.from_pretrained(options.model, add_pooling_layer=False, dtype=torch.float32).eval()
    if int8:
        import warnings

        warnings.simplefilter("ignore")  # that torchao will replace this
        quantization = need("torch.ao.quantization")
        kinds = {torch.nn.Linear: quantization.per_channel_dynamic_qconfig}
        model = quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)
    inputs = {name: torch.from_numpy(values) for name, values in onnx_inputs(options, ids).items()}

    def forward():
        with torch.inference_mode():
            return model(**inputs).last_hidden_state.numpy()

    return forward


ENGINES = {
    "onnxruntime fp32": lambda options, ids: onnxruntime(options, ids, None),
    "openvino fp32": lambda options, ids: openvino(options, ids, False),
    "ctranslate2 fp32": lambda options, ids: ctranslate2(options, ids, "float32"),
    "pytorch fp32": lambda options, ids: pytorch(options, ids, False),
    "onnxruntime int8 s8": lambda options, ids: onnxruntime(options, ids, "s8"),
    "onnxruntime int8 u8": lambda options, ids: onnxruntime(options, ids, "u8"),
    "openvino int8": lambda options, ids: openvino(options, ids, True),
    "ctranslate2 int8": lambda options, ids: ctranslate2(options, ids, "int8_float32"),
    "pytorch int8": lambda options, ids: pytorch(options, ids, True),
}


def prepare(name, options, ids):
    config = json.loads((options.model / "config.json").read_text())
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise Missing("this benchmark knows BERT with hidden_act gelu only")
    return ENGINES[name](options, ids)
