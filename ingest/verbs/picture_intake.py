"""How pictures are taken in, whichever encoder makes their vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ingest import pipeline
from ingest.decoding import Decoded
from ingest.objects import Detector, WithObjects
from ingest.pipeline import Job, Prepare
from ingest.report import Options, Report
from ingest.sources.pictures import PictureFormat, Pictures
from ingest.thumbnails import Thumbnails
from search.collection import Collection
from search.encoders.contract import Encoder


@dataclass(frozen=True, slots=True)
class Intake:
    """Pictures, and what is made of each beside its vectors."""

    source: Pictures
    form: PictureFormat
    thumbnails: Thumbnails | None
    detector: Detector | None
    options: Options

    @property
    def settings(self) -> str:
        """All that vectors depend on beside the pictures and the encoder."""
        said = "pictures draft" if self.form.draft else "pictures"
        return said if self.detector is None else f"{said}, {self.detector.settings}"

    def job(
        self,
        space: str,
        model: str,
        encoder: Callable[[], Encoder],
        *,
        learned: bytes | None = None,
        prune: bool = False,
    ) -> Job:
        """The work for the pipeline; `encoder` is called when there is something to encode."""
        prepare: Prepare
        if self.detector is None:
            prepare = Decoded(
                encoder,
                thumbnails=self.thumbnails,
                draft=self.form.draft,
                device=self.options.device,
            )
        else:  # boxes are in pixels of the whole picture
            prepare = WithObjects(Decoded(thumbnails=self.thumbnails), self.detector, encoder)
        return Job(space, model, encoder, prepare, self.settings, learned, prune)

    def fill(self, collection: Collection, job: Job) -> Report:
        """Fill the space, then make the thumbnails that unchanged records lack."""
        report = pipeline.fill(collection, self.source, job, self.options.progress)
        if self.thumbnails is not None and report.unchanged:
            from ingest.thumbnails import make_missing

            with collection.writing() as writer:
                make_missing(collection, writer, self.source, self.thumbnails)
        return report
