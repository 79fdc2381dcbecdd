"""A listener for tests: what a command reports while it runs."""

from loco_cli.events import Events


class Heard:
    """Keeps every report of a command, after what is to happen at it: `run(..., heard.events)`."""

    def __init__(self, on_progress=None, on_preview=None):
        self.on_progress, self.on_preview = on_progress, on_preview
        self.progressed, self.found, self.previews, self.warnings = [], [], [], []
        self.events = Events(self)

    def progress(self, progress):
        if self.on_progress:
            self.on_progress(progress)
        self.progressed.append(progress)

    def localized(self, found):
        self.found.append(found)

    def previewed(self, preview):
        if self.on_preview:
            self.on_preview(preview)
        self.previews.append(preview)

    def warned(self, sentence):
        self.warnings.append(sentence)
