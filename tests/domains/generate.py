"""A small log and catalogue in the shape of each domain: the same files on every call, with a few broken rows."""

import csv
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2024, 3, 1, tzinfo=UTC)
EVER = "2099-12-31T00:00:00Z"
N_TASTES = 4
NO_TYPE = "event type is not among event_weights"
"""Why an event of a type without a weight is refused."""
TOO_FEW = "too few fields: 2 where the header has 4"
"""Why a record that ends too early is refused."""
Row = Sequence[object]


@dataclass(frozen=True)
class Generated:
    """The files of a domain.

    Attributes:
        sources: settings of the section source: where the files are.
        refused: how often each reason to refuse a row of the log must come.
        n_not_selected: rows of the log that the domain leaves out.
    """

    sources: dict[str, dict[str, str]]
    refused: dict[str, int]
    n_not_selected: int = 0


def _write(path: Path, header: Row, rows: Iterable[Row]) -> dict[str, str]:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return {"path": str(path)}


def _seconds(when: datetime) -> int:
    return int(when.timestamp())


def _popular(draw: random.Random, n: int) -> int:
    """A number below n, small ones far more often: a few items are popular, most are not."""
    return min(int(draw.paretovariate(0.7)) - 1, n - 1)


def _broken(log: list[list[object]], types: bool) -> dict[str, int]:
    """Break copies of some rows, put them among the others, and return why each must be refused."""
    user, item, when, last = next(row for row in log if row[3] != "skip")
    log.insert(3, ["", item, when, last])
    log.insert(11, [user, "", when, last])
    log.insert(20, [user, item, "yesterday", last])
    log.insert(33, [user, item])
    reasons = {"user id is empty": 1, "item id is empty": 1, "time is unreadable": 1, TOO_FEW: 1}
    if not types:
        return reasons
    log.insert(40, [user, item, when, "teleport"])
    return reasons | {NO_TYPE: 1}


def write_ecommerce(folder: Path) -> Generated:
    """A shop: visits with views, some carts, few purchases; 4 categories, 12 brands, many products seldom bought."""
    draw = random.Random(1)
    n_users, per_taste = 80, 40
    log: list[list[object]] = []
    for user in range(n_users):
        when = START + timedelta(minutes=draw.randrange(20_000))
        for _ in range(draw.randrange(3, 6)):
            when += timedelta(days=draw.randrange(1, 9), minutes=draw.randrange(600))
            for _ in range(draw.randrange(2, 5)):
                taste = user % N_TASTES if draw.random() < 0.8 else draw.randrange(N_TASTES)
                item = f"p{_popular(draw, per_taste) * N_TASTES + taste}"
                for kind, chance in (("view", 1.0), ("cart", 0.35), ("buy", 0.6)):
                    if draw.random() > chance:
                        break
                    when += timedelta(minutes=2)
                    log.append([f"u{user:03d}", item, _seconds(when), kind])
    refused = _broken(log, types=True)
    categories = ("Küche > Töpfe", "Garten > Geräte", "Büro > Papier", "Spiele > Würfel")
    brands = ("Ärbel", "Borja", "Œuvre")
    nouns = ("Topf", "Schaufel", "Papier «A4»", "Würfel 🎲")
    catalogue = [
        [
            f"p{number}",
            f"{nouns[number % N_TASTES]} {number // N_TASTES}",
            f"{brands[number // N_TASTES % 3]} {number % N_TASTES}" if number % 11 else "",
            categories[number % N_TASTES],
            f"{nouns[number % N_TASTES]} for every day, number {number}. Made to last.",
        ]
        for number in range(per_taste * N_TASTES)
    ]
    return Generated(
        {
            "interactions": _write(folder / "log.csv", ["user_id", "item_id", "timestamp", "event_type"], log),
            "items": _write(
                folder / "products.csv", ["item_id", "title", "brand", "category", "description"], catalogue
            ),
        },
        refused,
    )


def write_video(folder: Path) -> Generated:
    """A video service: films of 4 genres and 8 channels, watched for seconds to hours, a quarter left at once."""
    draw = random.Random(2)
    n_users, per_taste = 70, 25
    log: list[list[object]] = []
    for user in range(n_users):
        when = START + timedelta(minutes=draw.randrange(20_000))
        for item in draw.sample(range(per_taste * N_TASTES), draw.randrange(14, 22)):
            if item % N_TASTES != user % N_TASTES and draw.random() < 0.7:
                item = _popular(draw, per_taste) * N_TASTES + user % N_TASTES
            when += timedelta(hours=draw.randrange(3, 60))
            seconds = draw.randrange(5, 120) if draw.random() < 0.25 else draw.randrange(120, 7200)
            log.append([f"u{user:03d}", f"v{item}", _seconds(when), seconds])
    n_left_at_once = sum(int(str(row[3])) < 120 for row in log)
    refused = _broken(log, types=False)
    log.insert(60, [*log[0][:3], "long"])
    genres = ("Drama|Liebe", "Komödie", "Krimi|Drama", "科幻")
    catalogue = [
        [
            f"v{number}",
            f"Der {number}. Film «é» ({1990 + number % 30})",
            genres[number % N_TASTES],
            f"Kanal {number % N_TASTES}-{number // N_TASTES % 2}",
            f"A film of the year {1990 + number % 30} about number {number}. It runs at night.",
        ]
        for number in range(per_taste * N_TASTES)
    ]
    return Generated(
        {
            "interactions": _write(folder / "log.csv", ["user_id", "item_id", "timestamp", "watched_s"], log),
            "items": _write(folder / "titles.csv", ["item_id", "title", "genres", "channel", "description"], catalogue),
        },
        refused | {"value is not a number": 1},
        n_left_at_once,
    )


def write_music(folder: Path) -> Generated:
    """A music service: each listener has a few favourite tracks that come again and again; 4 genres, 24 artists."""
    draw = random.Random(3)
    n_users, per_taste = 60, 30
    log: list[list[object]] = []
    for user in range(n_users):
        when = START + timedelta(minutes=draw.randrange(20_000))
        own = [_popular(draw, per_taste) * N_TASTES + user % N_TASTES for _ in range(8)]
        for _ in range(draw.randrange(20, 40)):
            when += timedelta(minutes=draw.choice((4, 4, 4, 700)))
            is_own = draw.random() < 0.7
            track = draw.choice(own) if is_own else draw.randrange(per_taste * N_TASTES)
            kind = "play" if is_own or draw.random() < 0.6 else "skip"
            log.append([f"u{user:03d}", f"t{track}", _seconds(when), kind])
            if is_own and draw.random() < 0.05:
                log.append([f"u{user:03d}", f"t{track}", _seconds(when) + 60, "like"])
    n_skips = sum(row[3] == "skip" for row in log)
    refused = _broken(log, types=True)
    genres = ("Blues", "Música clásica", "Electro, Tanz", "Рок")
    catalogue = [
        [
            f"t{number}",
            f"Lied {number} — «é»",
            f"Künstler {number % N_TASTES}-{number // N_TASTES % 6}" if number % 13 else "",
            f"Album {number // 10}",
            genres[number % N_TASTES],
        ]
        for number in range(per_taste * N_TASTES)
    ]
    return Generated(
        {
            "interactions": _write(folder / "log.csv", ["user_id", "item_id", "timestamp", "event_type"], log),
            "items": _write(folder / "tracks.csv", ["item_id", "title", "artist", "album", "genre"], catalogue),
        },
        refused,
        n_skips,
    )


def write_social(folder: Path) -> Generated:
    """A network: 80 people follow each other and like, share and comment on short posts; some authors are loud."""
    draw = random.Random(4)
    n_users, n_posts = 80, 120
    authors = [_popular(draw, 20) * N_TASTES + number % N_TASTES for number in range(n_posts)]
    log: list[list[object]] = []
    for user in range(n_users):
        when = START + timedelta(minutes=draw.randrange(20_000))
        for _ in range(draw.randrange(8, 16)):
            when += timedelta(hours=draw.randrange(1, 40))
            taste = user % N_TASTES if draw.random() < 0.8 else draw.randrange(N_TASTES)
            account = _popular(draw, 20) * N_TASTES + taste
            if draw.random() < 0.3 and account != user:
                log.append([f"a{user:03d}", f"a{account:03d}", _seconds(when), "follow"])
                continue
            post = _popular(draw, n_posts // N_TASTES) * N_TASTES + taste
            kind = draw.choices(("like", "comment", "share"), (8, 2, 1))[0]
            log.append([f"a{user:03d}", f"post{post}", _seconds(when), kind])
    refused = _broken(log, types=True)
    tags = ("#Suppe #Kochen", "#Garten", "#música #live", "#gedichte")
    words = ("Heute gab es Suppe 🍲", "Die Rosen blühen", "¡Qué concierto!", "Ein Gedicht für den Abend")
    catalogue: list[Row] = [
        [f"post{number}", f"{words[number % N_TASTES]}, Tag {number}", tags[number % N_TASTES], f"a{author:03d}"]
        for number, author in enumerate(authors)
    ]
    catalogue += [[f"a{number:03d}", f"Zoë {number}", "", ""] for number in range(n_users)]
    rules = [
        [f"a{number:03d}", "block", "", f"a{number:03d}", "", "", "one's own account"] for number in range(n_users)
    ]
    return Generated(
        {
            "interactions": _write(folder / "log.csv", ["user_id", "item_id", "timestamp", "event_type"], log),
            "items": _write(folder / "posts.csv", ["item_id", "title", "hashtags", "author"], catalogue),
            "rules": _write(
                folder / "own_accounts.csv",
                ["item_id", "action", "value", "user_id", "starts_on", "ends_on", "reason"],
                rules,
            ),
        },
        refused,
    )


N_NEWS_DAYS = 40
"""Days of news; the conf keeps 30."""
NEWS_A_DAY = 5


def write_content(folder: Path) -> Generated:
    """A news site: 5 articles a day for 40 days, read on their day and the next, over after 4 days; the last stay."""
    draw = random.Random(5)
    n_users = 70
    log: list[list[object]] = []
    for day in range(N_NEWS_DAYS):
        for user in range(n_users):
            if draw.random() < 0.6:
                continue
            when = START + timedelta(days=day, minutes=draw.randrange(1000))
            for _ in range(draw.randrange(1, 4)):
                day_of = max(0, day - (draw.random() < 0.3))
                place = user % N_TASTES if draw.random() < 0.7 else draw.randrange(NEWS_A_DAY)
                kind = draw.choices(("view", "read", "share"), (6, 3, 1))[0]
                when += timedelta(minutes=draw.randrange(1, 30))
                log.append([f"u{user:03d}", f"n{day_of * NEWS_A_DAY + place}", _seconds(when), kind])
    newest = max(int(str(row[2])) for row in log)
    n_old = sum(int(str(row[2])) < newest - 30 * 86_400 for row in log)
    refused = _broken(log, types=True)
    sections = ("Politik", "Sport", "Kultur", "Wissenschaft", "Köln")
    subjects = ("Wahl", "Fußball", "Театр", "Sterne", "Dom")
    catalogue = []
    for number in range(N_NEWS_DAYS * NEWS_A_DAY):
        day, place = divmod(number, NEWS_A_DAY)
        published = START + timedelta(days=day, hours=-1)
        until = f"{published + timedelta(days=4):%Y-%m-%dT%H:%M:%SZ}" if day < N_NEWS_DAYS - 4 else EVER
        catalogue.append(_article(number, sections[place], subjects[place], f"{published:%Y-%m-%dT%H:%M:%SZ}", until))
    last = N_NEWS_DAYS * NEWS_A_DAY
    # nobody read it yet; planned; without an end
    catalogue.append(_article(last, sections[1], subjects[1], f"{START:%Y-%m-%dT%H:%M:%SZ}", ""))
    catalogue.append(_article(last + 1, sections[1], subjects[1], EVER, ""))
    return Generated(
        {
            "interactions": _write(folder / "log.csv", ["user_id", "item_id", "timestamp", "event_type"], log),
            "items": _write(
                folder / "articles.csv",
                ["item_id", "title", "section", "tags", "teaser", "published_at", "available_until"],
                catalogue,
            ),
        },
        refused,
        n_old,
    )


def _article(number: int, section: str, subject: str, published: str, until: str) -> Row:
    title = f"{subject} Nr. {number}"
    return [f"n{number}", title, section, f"{subject}, Tag", f"{title} bewegt alle. Mehr dazu.", published, until]


WRITERS: dict[str, Callable[[Path], Generated]] = {
    "ecommerce": write_ecommerce,
    "video": write_video,
    "music": write_music,
    "social": write_social,
    "content": write_content,
}
"""What writes the files of each domain."""
