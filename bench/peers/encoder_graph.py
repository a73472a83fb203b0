# SPDX-License-Identifier: Apache-2.0
"""Writes a BERT-family encoder as ONNX.

The graph is written by hand in the form that was fastest in ONNX Runtime 1.32, with AVX2 and with AVX-512: linear
layers are Gemm nodes with their bias on [tokens, width]; attention is MatMul, Softmax, MatMul; residual and
normalization are Add and LayerNormalization. The fused nodes MultiHeadAttention, Attention and SkipLayerNormalization
took longer, and so did what PyTorch's exporters write.
"""

import json


class Graph:
    """Collects the nodes and weights of an ONNX graph; every `add` returns the name of the node's output."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def add(self, kind, *inputs, domain="", output=None, **attributes):
        import onnx

        output = output or f"{kind}_{len(self.nodes)}"
        node = onnx.helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def weight(self, name, value):
        import onnx

        self.weights.append(onnx.numpy_helper.from_array(value, name))
        return name


def read_weights(model):
    """Tensors of all shards as float32 NumPy arrays, without the prefix of a model with a head."""
    import torch  # NumPy has no bf16
    from safetensors.torch import load_file

    tensors = {}
    for path in sorted(model.glob("*.safetensors")):
        tensors.update({name.removeprefix("bert."): t for name, t in load_file(path).items()})
    return {name: t.to(torch.float32).numpy() for name, t in tensors.items() if t.is_floating_point()}


def export(model, masked, path):
    """Writes the fp32 encoder as ONNX: input_ids [, attention_mask] int64 [batch, seq] → last_hidden_state."""
    import numpy as np
    import onnx

    config = json.loads((model / "config.json").read_text())
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise SystemExit(f"{model}: this benchmark knows BERT with hidden_act gelu only")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    tensors = read_weights(model)
    g = Graph()

    def constant(name, values):
        return g.weight(name, np.array(values, np.int64))

    def number(name, value):
        return g.weight(name, np.array(value, np.float32))

    def tensor(name):
        return g.weight(name, tensors[name])

    def add_and_normalize(x, residual, prefix):
        scale, bias = tensor(f"{prefix}.weight"), tensor(f"{prefix}.bias")
        epsilon = config["layer_norm_eps"]
        return g.add("LayerNormalization", g.add("Add", x, residual), scale, bias, axis=-1, epsilon=epsilon)

    def linear(x, prefix):
        return g.add("Gemm", x, tensor(f"{prefix}.weight"), tensor(f"{prefix}.bias"), transB=1)

    zero, one, two = constant("zero", [0]), constant("one", [1]), constant("two", [2])
    rows = constant("rows", [-1, width])
    shape = g.add("Shape", "input_ids")
    sequence = g.add("Slice", shape, one, two, zero)
    positions = g.add("Slice", tensor("embeddings.position_embeddings.weight"), zero, sequence, zero)
    types = g.weight("embeddings.token_type_0", tensors["embeddings.token_type_embeddings.weight"][:1])
    words = g.add("Gather", tensor("embeddings.word_embeddings.weight"), "input_ids")
    x = add_and_normalize(words, g.add("Add", positions, types), "embeddings.LayerNorm")
    x = g.add("Reshape", x, rows)
    split = g.add("Concat", shape, constant("width", [width]), axis=0)  # [batch, seq, width]
    split_heads = g.add("Concat", shape, constant("heads", [heads, width // heads]), axis=0)  # [batch, seq, heads, …]
    scale = number("scale", (width // heads) ** -0.5)
    if masked:  # 0 where kept, -10⁹ where not: [batch, 1, 1, seq]
        dropped = g.add("Sub", number("kept", 1), g.add("Cast", "attention_mask", to=onnx.TensorProto.FLOAT))
        mask_bias = g.add("Mul", g.add("Unsqueeze", dropped, constant("middle", [1, 2])), number("minus", -1e9))

    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"

        def by_head(part, axes):
            of_heads = g.add("Reshape", linear(x, f"{prefix}.attention.self.{part}"), split_heads)
            return g.add("Transpose", of_heads, perm=axes)

        q, k, v = by_head("query", [0, 2, 1, 3]), by_head("key", [0, 2, 3, 1]), by_head("value", [0, 2, 1, 3])
        scores = g.add("Mul", g.add("MatMul", q, k), scale)
        scores = g.add("Add", scores, mask_bias) if masked else scores
        attended = g.add("Transpose", g.add("MatMul", g.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        projected = linear(g.add("Reshape", attended, rows), f"{prefix}.attention.output.dense")
        x = add_and_normalize(projected, x, f"{prefix}.attention.output.LayerNorm")
        wide = g.add("Gelu", linear(x, f"{prefix}.intermediate.dense"), domain="com.microsoft")
        x = add_and_normalize(linear(wide, f"{prefix}.output.dense"), x, f"{prefix}.output.LayerNorm")
    g.add("Reshape", x, split, output="last_hidden_state")

    def describe(name, kind, shape):
        return onnx.helper.make_tensor_value_info(name, kind, shape)

    names = ["input_ids"] + ["attention_mask"] * masked
    inputs = [describe(name, onnx.TensorProto.INT64, ["batch", "seq"]) for name in names]
    outputs = [describe("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "seq", width])]
    graph = onnx.helper.make_graph(g.nodes, "encoder", inputs, outputs, g.weights)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
