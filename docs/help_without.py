"""Nodes whose help page has no picture, or no row over a dial, with the reason. Standard library alone."""

STORED = "it reads or writes a file, and changes no picture"
NO_PICTURE = {
    "LikenessSavePalette": STORED,
    "LikenessLoadPalette": STORED,
    "LikenessSaveReference": STORED,
    "LikenessLoadReference": STORED,
    "LikenessSaveTemplate": STORED,
    "LikenessLoadTemplate": STORED,
    "LikenessSaveTrajectory": STORED,
    "LikenessLoadTrajectory": STORED,
    "LikenessRecordedTrajectory": "it hands on a guider's run, and changes no picture",
    "LikenessLoadJointCheckpoint": "it needs a checkpoint trained on sets, which the pack does not bundle as a file",
    "LikenessMetrics": "it gives networks for Likeness Score",
    "LikenessScore": "it gives numbers; Keep the Best shows pictures by their scores",
    "LikenessSegment": "it needs a Segment Anything checkpoint, which the pack does not bundle",
}
"""Nodes without a picture, with the reason."""

NO_DIAL = {
    "LikenessSubjectPrompt": "its widgets are texts",
    "LikenessDemoModel": "it has no widgets",
    "LikenessDemoJointModel": "it has no widgets",
    "LikenessPromptList": "its widgets are texts",
    "LikenessCutOut": "its limits drop instances, and change none",
    "LikenessSameSubject": "its threshold drops instances, and changes none",
    "LikenessAssembleSet": "its size scales the picture alone",
    "LikenessKeepBest": "its number says how many pictures are kept",
    "LikenessLayerProbe": "its widgets choose what is measured",
    "LikenessLossCurves": "it has no widgets",
}
"""Nodes with a picture and no row over a dial, with the reason."""
