"""Files that servers, desktops and programs leave between the images: one list for every place."""

from __future__ import annotations

import re

# In small letters: file systems of Windows and macOS hand the same name on in another case.
_NAMES = frozenset(
    {
        # Network storage: thumbnails, wastebaskets and snapshots of Synology, QNAP, NetApp, Samba.
        "@eadir",
        "@tmp",
        "@sharebin",
        "@recycle",
        "@recently-snapshot",
        "@transcode",
        "#recycle",
        "#snapshot",
        "~snapshot",
        # Windows.
        "$recycle.bin",
        "system volume information",
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        # macOS: the file of a folder's icon ends in a carriage return, which servers replace.
        "__macosx",
        "icon\r",
        "icon\uf00d",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        # Linux.
        "lost+found",
        # Programs: Picasa, Canon's ZoomBrowser, Paint Shop Pro, digiKam, Nikon, Capture One,
        # FrontPage, FreeFileSync, Python.
        "picasa.ini",
        "zbthumbnail.info",
        "pspbrwse.jbf",
        "corel auto-preserve",
        "thumbnails-digikam.db",
        "nksc_param",
        "captureone",
        "_vti_cnf",
        "sync.ffs_db",
        "__pycache__",
    }
)
# What chkdsk finds; Office's locks; Lightroom's previews; a leading dot as netatalk writes it;
# extended attributes as Synology and macOS's archives write them.
_FORMS = re.compile(
    r"\.|~\$|:2e|found\.[0-9]{3}$|.*\.lrdata$|.*@syno(eastream|resource)$|.*:zone\.identifier$"
    r"|.*:com\.(apple|dropbox)\..*$",
    re.DOTALL,
)


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden (``.…``), or holds no data of the user's."""
    folded = name.casefold()
    return folded in _NAMES or _FORMS.match(folded) is not None
