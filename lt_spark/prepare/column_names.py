"""What people call their columns, and the search for one by its name."""

import re
from collections.abc import Callable

from lt_spark.prepare.heads import Head

# names are compared in lower case without separators, the likelier first
_NAMES: dict[str, tuple[str, ...]] = {
    "user": tuple(
        "userid user uid customerid customer custid clientid client memberid member visitorid visitor accountid "
        "account profileid reviewerid buyerid shopperid subscriberid personid patronid readerid listenerid "
        "viewerid playerid "
        "studentid guestid householdid householdkey cookieid deviceid useridx usernumber userno kundeid kundennr "
        "benutzerid clientenr utilisateurid 用户id 用户 sessionid session anonymousid "
        "anonid author reviewer username".split()
    ),
    "item": tuple(
        "itemid item iid productid product prodid movieid movie bookid isbn trackid songid artistid albumid videoid "
        "newsid articleid article contentid gameid appid businessid animeid recipeid courseid jobid listingid offerid "
        "hotelid placeid venueid poiid postid storyid showid titleid docid documentid sku skuid asin parentasin gtin "
        "ean upc stockcode productcode itemcode goodsid itemidx itemnumber itemno artikelid artikelnr "
        "produktid produitid "
        "商品id 商品 adid".split()
    ),
    "time": tuple(
        "timestamp ts time eventtime eventtimestamp eventts datetime unixreviewtime unixtime unixtimestamp "
        "ratingtimestamp timestampms createdat occurredat clicktime viewtime playedat watchedat visitedat purchasedat "
        "orderedat ratedat addedat date eventdate reviewtime reviewdate orderdate purchasedate invoicedate "
        "transactiondate transdate tdat day localtime zeit datum 时间 时间戳 position order sequence seq step index "
        "eventorder ordernumber addtocartorder".split()
    ),
    "event_type": tuple(
        "eventtype event action actiontype eventname behavior behaviour behaviortype behaviourtype interactiontype "
        "interaction activity activitytype type kind 行为".split()
    ),
    "value": tuple(
        "rating overall score stars ratings reviewscore reviewrating starrating bookrating value quantity qty count "
        "plays playcount listencount nplays weight watchtime watchseconds secondswatched playtime dwelltime "
        "watchratio 评分".split()
    ),
    "title": tuple(
        "title name itemtitle productname itemname movietitle booktitle producttitle prodname trackname tracktitle "
        "songname songtitle originaltitle englishname primarytitle headline displayname label titel bezeichnung titre "
        "nom titulo nombre 标题 名称 shortdescription description".split()
    ),
    "is_available": tuple(
        "isavailable available instock isinstock isactive active enabled published ispublished".split()
    ),
    "available_from": tuple("availablefrom startdate validfrom publishfrom launchdate onsalefrom publishedat".split()),
    "available_until": tuple(
        "availableuntil availableto enddate validuntil validto expiresat expirydate expires onsaleuntil".split()
    ),
}
_PARTS = {
    "user": ("user", "customer", "client", "visitor", "member", "reviewer", "account", "session"),
    "item": ("item", "product", "movie", "book", "article", "track", "song", "content", "sku", "asin", "video"),
}
_ID_ENDINGS = ("id", "key", "no", "nr", "code", "num", "number", "uuid", "hash", "idx", "ref")


def plain_name(name: str) -> str:
    """Return a column's name for comparison: RecBole's ``:token`` off, lower case, letters and digits only."""
    return re.sub(r"[\W_]+", "", re.sub(r":(token|float)(_seq)?\Z", "", name.strip()).casefold())


def role_of(name: str) -> str:
    """Return the role that a column's name speaks for; empty: none."""
    plain = plain_name(name)
    return next((role for role, names in _NAMES.items() if plain in names), "")


def by_name(head: Head, role: str, fits: Callable[[list[str]], bool] = lambda values: True) -> str:
    """Return the column of a head whose name is the likeliest of a role and whose values fit; empty: none."""
    plain = {plain_name(column): column for column in reversed(head.columns)}
    for name in _NAMES[role]:
        if name in plain and fits(head.values(plain[name])):
            return plain[name]
    for part in _PARTS.get(role, ()):
        for name, column in plain.items():
            if part in name and name.endswith(_ID_ENDINGS) and fits(head.values(column)):
                return column
    return ""
