#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints, as JSON, what the tensorboard package reads in a folder of event files: {"scalars": {TAG: [[step, value], …]},
"histograms": {TAG: [[step, [[left, right, count], …]], …]}}. Status 77 where there is no tensorboard."""
import json
import sys

try:
    from tensorboard.backend.event_processing import plugin_event_multiplexer as reading
    from tensorboard.util import tensor_util
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(77)

multiplexer = reading.EventMultiplexer(tensor_size_guidance={"scalars": 0, "histograms": 0}).AddRunsFromDirectory(sys.argv[1])
multiplexer.Reload()
found = {"scalars": {}, "histograms": {}}
for run in multiplexer.Runs():
    accumulator = multiplexer.GetAccumulator(run)
    for kind, tags in found.items():
        for tag in accumulator.PluginTagToContent(kind) if kind in accumulator.ActivePlugins() else ():
            tags[tag] = [
                [event.step, tensor_util.make_ndarray(event.tensor_proto).tolist()] for event in accumulator.Tensors(tag)
            ]
print(json.dumps(found))
