"""Sections of the sources. conf/base.yaml explains each key for people."""

from typing import Literal

from pydantic import Field

from lt_spark.core.section import Section

FileFormat = Literal["auto", "csv", "jsonl", "parquet", "delta", "table"]
TimeFormat = Literal["auto", "s", "ms", "us", "iso", "order"]


class SourceFile(Section):
    """A source file, folder or table and how to read it."""

    path: str = ""
    """File, folder, glob, Delta folder or table name."""
    format: FileFormat = "auto"
    """``auto`` goes by the file's ending."""
    encoding: str = "utf-8"
    """A Python codec name, such as utf-8, latin-1, cp1252, gbk."""
    separator: str = ","
    """Between fields of a CSV file; may have several characters (``::``)."""
    header: bool = True
    """Whether a CSV file's first record names its columns; without one they are called ``0``, ``1``, ..."""
    quote: str = '"'
    """The quote character of a CSV file; empty: quotes mean nothing."""
    where: str = ""
    """Keep only rows for which this condition holds (SQL comparison syntax over the file's columns)."""


class InteractionColumns(Section):
    """Which column of the interactions source is what; an empty name: there is none."""

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    """Time of the event, or its position (see ``time_format``); empty: the order of the file."""
    event_type: str = ""
    value: str = ""
    """Rating, quantity or seconds watched."""


class InteractionsSource(SourceFile):
    """The log: what users did."""

    columns: InteractionColumns = InteractionColumns()
    time_format: TimeFormat = "auto"
    """``auto``: ISO text or epoch seconds, milliseconds, microseconds by size; values under 10^8: an order only."""
    since_days: float | None = Field(None, gt=0)
    """Keep only events of the last so many days before the newest event."""
    event_weights: dict[str, float] = Field(default_factory=dict)
    """Confidence by event type, such as ``{view: 1, cart: 3, buy: 5}``; a type not named is refused when set."""
    min_value: float | None = None
    """Keep only events whose value is at least this (a rating threshold)."""


class ItemColumns(Section):
    """Which column of the items source is what; an empty name: there is none."""

    item: str = "item_id"
    title: str = "title"
    text: tuple[str, ...] = ()
    """Further text columns, kept as the item's attributes."""
    is_available: str = ""
    available_from: str = ""
    available_until: str = ""


class ItemsSource(SourceFile):
    """The catalogue: what the items are. An empty path: the catalogue is the items of the log, without text."""

    columns: ItemColumns = ItemColumns()


class UserColumns(Section):
    """Which column of the users source is what."""

    user: str = "user_id"
    groups: tuple[str, ...] = ()
    """Columns by which users are told apart when models are measured, such as an age band; nothing learns from them."""


class UsersSource(SourceFile):
    """What is known of the users beside the log. An empty path: nothing is."""

    columns: UserColumns = UserColumns()


class RulesSource(SourceFile):
    """Business rules: what the shop pins, blocks and boosts. An empty path: there are none."""


class TripleColumns(Section):
    """Which column of the triples source is what."""

    head: str = "head_id"
    """What the triple is about: an item's id, or an entity that ``links`` names."""
    relation: str = "relation_id"
    tail: str = "tail_id"
    """The entity that it is related to."""


class TriplesSource(SourceFile):
    """What is known of the items as triples (item, relation, entity). An empty path: nothing is."""

    columns: TripleColumns = TripleColumns()
    relations: tuple[str, ...] = ()
    """Only these relations; empty: all."""
    max_values: int = Field(20, ge=1)
    """Entities kept an item and relation."""


class LinkColumns(Section):
    """Which column of the links source is what."""

    item: str = "item_id"
    entity: str = "entity_id"


class LinksSource(SourceFile):
    """Which entity of the triples an item is. An empty path: triples begin with the items' own ids."""

    columns: LinkColumns = LinkColumns()


class SourceConfig(Section):
    """The tables that lt_spark reads, and the shop's rules."""

    interactions: InteractionsSource = InteractionsSource()
    items: ItemsSource = ItemsSource()
    users: UsersSource = UsersSource()
    triples: TriplesSource = TriplesSource()
    links: LinksSource = LinksSource()
    rules: RulesSource = RulesSource()
