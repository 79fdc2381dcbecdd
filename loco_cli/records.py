"""Base classes of all document records and recipe sections."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Record(BaseModel):
    """A frozen part of a document that rejects unknown keys, NaN and infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )

    def to_json(self) -> dict[str, Any]:
        """Return the document as plain values, with keys in field order."""
        return self.model_dump(mode="json", by_alias=True)


class SparseRecord(Record):
    """A record whose document omits the keys in `omitted_if_none` if they are None."""

    omitted_if_none: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_omitted(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        for key in self.omitted_if_none:
            if getattr(self, key) is None:
                document.pop(key, None)
        return document
