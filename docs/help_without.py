"""Nodes whose help page has no row of pictures over a dial, with the reason. Standard library alone."""

FILE = "its widget names a file"
NO_DIAL = {
    "LikenessSubjectPrompt": "its widgets are texts",
    "LikenessDemoModel": "it has no widgets",
    "LikenessDemoJointModel": "it has no widgets",
    "LikenessDemoTransformer": "it has no widgets",
    "LikenessPromptList": "its widgets are texts",
    "LikenessCutOut": "its limits drop instances, and change none",
    "LikenessSameSubject": "its threshold drops instances, and changes none",
    "LikenessAssembleSet": "its size scales the picture alone",
    "LikenessKeepBest": "its number says how many pictures are kept",
    "LikenessLayerProbe": "its widgets choose what is measured",
    "LikenessLossCurves": "it has no widgets",
    "LikenessSavePalette": FILE,
    "LikenessLoadPalette": FILE,
    "LikenessSaveReference": FILE,
    "LikenessLoadReference": FILE,
    "LikenessSaveTemplate": FILE,
    "LikenessLoadTemplate": FILE,
    "LikenessSaveTrajectory": FILE,
    "LikenessLoadTrajectory": FILE,
    "LikenessLoadJointCheckpoint": FILE,
    "LikenessRecordedTrajectory": "it has no widgets",
    "LikenessMetrics": "its widgets choose networks, of which the pack has one",
    "LikenessScore": "its widget is a text",
}
"""The reason of each."""
