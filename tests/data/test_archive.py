"""Archives of every kind that tar and zip allow: each member is read rightly, or listed with the reason."""

import gzip
import io
import stat
import tarfile
import warnings
import zipfile

import pytest

from audiojax.data.archive import read_archive
from audiojax.data.release import list_files
from audiojax.errors import DataError

LONG = "folder/" + "long" * 40 + ".wav"
MEMBERS = {"folder/a.wav": b"a" * 700, "folder/b.wav": b"", LONG: b"c" * 512, "folder/text.txt": b"d"}


def contents(archive):
    """Path -> bytes, or why it cannot be read; several under one path follow each other in a list."""
    found = {}
    for file in list_files(archive):
        try:
            found.setdefault(str(file.path), []).append(file.read())
        except ValueError as error:
            found.setdefault(str(file.path), []).append(str(error))
    return {path: values[0] if len(values) == 1 else values for path, values in found.items()}


def tar_bytes(members, form=tarfile.GNU_FORMAT, encoding="utf-8"):
    """A tar of bytes by name, or of (name, bytes or TarInfo) pairs."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, encoding=encoding, errors="surrogateescape") as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo()
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file.getvalue()


def tar_entry(kind, link=""):
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def zip_bytes(members, compression=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes) pairs."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", ["plain", "gzip", "gzip of two members"])
def test_every_form_of_tar_reads_the_same_whatever_its_name(tmp_path, form, pack):
    members = {name: content for name, content in MEMBERS.items() if form != tarfile.USTAR_FORMAT or name != LONG}
    content = tar_bytes(members, form)
    if pack == "gzip of two members":
        content = gzip.compress(content[:900]) + gzip.compress(content[900:])
    elif pack == "gzip":
        content = gzip.compress(content)
    path = tmp_path / "genres.tar.gz"
    path.write_bytes(content)
    assert contents(path) == members


def test_sparse_member_of_a_tar_is_read_with_its_holes(tmp_path):
    info = tar_entry(tarfile.GNUTYPE_SPARSE)
    info.name, info.size = "a.wav", 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (1024, 512)  # 512 bytes from position 1024 on
    header[483:495] = b"%011o\0" % 2048
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:512]) + 8 * ord(" "))
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + b"x" * 512 + tar_bytes({"b.wav": b"b"}))
    assert contents(path) == {"a.wav": bytes(1024) + b"x" * 512 + bytes(512), "b.wav": b"b"}


def test_memory_does_not_grow_with_the_members_of_a_tar(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes({f"{number}.wav": b"" for number in range(50)}))
    members = read_archive(path)
    assert [next(members).name for _ in range(50)][-1] == "49.wav"
    assert not members.gi_frame.f_locals["tar"].members


SECOND = tar_bytes({"folder/second.wav": b"second"})


def end_of(members):
    """Where the last member of a tar ends."""
    with tarfile.open(fileobj=io.BytesIO(tar_bytes(members))) as tar:
        tar.getmembers()
        return tar.offset


def broken(content, name):
    """A tar in which one member's header is broken."""
    content = bytearray(content)
    content[content.index(name.encode()) + 150] ^= 1  # in that header's checksum
    return bytes(content)


END = end_of(MEMBERS)
DAMAGED_TARS = {
    "another tar right after its end": tar_bytes(MEMBERS)[: END + 1024] + SECOND,
    "another tar after its padding": tar_bytes(MEMBERS) + SECOND,
    "a broken header of a small last file": broken(tar_bytes(MEMBERS), "folder/text.txt"),
    "cut between two members": tar_bytes(MEMBERS)[:END],
    "cut in a header": tar_bytes(MEMBERS)[: END + 100],
    "cut in the content": tar_bytes(MEMBERS)[:1000],
    "empty": b"",
}


@pytest.mark.parametrize("damage", DAMAGED_TARS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_damage_of_a_tar_is_listed(tmp_path, damage, compress):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(compress(DAMAGED_TARS[damage]))
    *_, last = list_files(path)
    assert (
        last.what == str(path)
        and "so any of its files may be altered" in last.fault
        or "truncated or corrupt" in last.fault
    )
    found = contents(path)
    assert all(found[name] == content for name, content in MEMBERS.items() if name in found)


def test_tar_lists_links_devices_second_files_and_names_that_lead_out(tmp_path):
    path = tmp_path / "a.tar.gz"
    members = [
        ("label", tar_entry(b"V")),
        ("./folder", tar_entry(tarfile.DIRTYPE)),
        ("./folder/a.wav", b"first"),
        ("folder/a.wav", b"second"),
        ("folder/A.WAV", b"another"),
        ("folder\\windows.wav", b"windows"),
        ("folder/hard.wav", tar_entry(tarfile.LNKTYPE, "folder/a.wav")),
        ("folder/soft.wav", tar_entry(tarfile.SYMTYPE, "a.wav")),
        ("folder/pipe.wav", tar_entry(tarfile.FIFOTYPE)),
        ("folder/folder.wav", tar_entry(tarfile.DIRTYPE)),
        ("folder/../up.wav", b"up"),
        ("folder\\..\\up2.wav", b"up"),
        ("/root.wav", b"root"),
        ("C:\\disk.wav", b"disk"),
        ("folder/._a.wav", b"finder"),
        ("folder/.DS_Store", b"finder"),
        ("__MACOSX/folder/b.wav", b"finder"),
        ("folder/Thumbs.db", b"explorer"),
        ("folder/latin-\udce9.wav", b"name"),
    ]
    path.write_bytes(gzip.compress(tar_bytes(members)))
    out, link = "a name that leads out of the archive", "a link or device, not a file"
    assert contents(path) == {
        "folder/a.wav": [b"first", "a second file of this name"],
        "folder/A.WAV": b"another",
        "folder/windows.wav": b"windows",
        "folder/hard.wav": link,
        "folder/soft.wav": link,
        "folder/pipe.wav": link,
        "folder/folder.wav": "a folder, not a file",
        **dict.fromkeys(("folder/../up.wav", "folder/../up2.wav", "/root.wav", "C:/disk.wav"), out),
        "folder/latin-\udce9.wav": "its name is not UTF-8",
    }
    whats = [file.what for file in list_files(path)]
    assert len(set(whats)) == len(whats) and f"{path}: folder/latin-\\udce9.wav" in whats


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("prefix", [b"", b"a program that unpacks itself"])
def test_every_form_of_zip_reads_the_same(tmp_path, compression, prefix):
    path = tmp_path / "a.zip"
    path.write_bytes(prefix + zip_bytes(MEMBERS.items(), compression))
    assert contents(path) == MEMBERS


def test_zip64_is_read(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("folder/a.wav", "w", force_zip64=True) as file:
        file.write(b"a")
    assert contents(path) == {"folder/a.wav": b"a"}


def test_zip_lists_links_second_files_and_what_cannot_be_unpacked(tmp_path):
    link = zipfile.ZipInfo("folder/link.wav")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    members = [
        ("folder\\", b""),
        ("folder\\a.wav", b"first"),
        ("other/a.wav", b"other"),
        ("folder/a.wav", b"second"),
        (link, b"a.wav"),
        ("..\\up.wav", b"up"),
        ("__MACOSX/folder/._a.wav", b"finder"),
        ("desktop.ini", b"explorer"),
        ("folder/locked.wav", b"locked"),
        ("folder/method.wav", b"method"),
    ]
    content = bytearray(zip_bytes(members, zipfile.ZIP_STORED))
    for name, offset, value in ((b"folder/locked.wav", 8, 1), (b"folder/method.wav", 10, 97)):
        start = content.rindex(b"PK\1\2", 0, content.rindex(name))  # its entry in the directory
        content[start + offset] |= value
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    found = contents(path)
    assert "encrypted" in found.pop("folder/locked.wav") and "compression" in found.pop("folder/method.wav")
    assert found == {
        "folder/a.wav": [b"first", "a second file of this name"],
        "other/a.wav": b"other",
        "folder/link.wav": "a link or device, not a file",
        "../up.wav": "a name that leads out of the archive",
    }


@pytest.mark.parametrize("stored", ["é.wav".encode(), "é.wav".encode("cp437")])
def test_zip_names_without_the_mark_of_utf8(tmp_path, stored):
    content = zip_bytes([("X" * len(stored), b"a")])
    path = tmp_path / "a.zip"
    path.write_bytes(content.replace(b"X" * len(stored), stored))
    assert contents(path) == {"é.wav": b"a"}


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4" + bytes(100), zip_bytes(MEMBERS.items())[:-30]])
def test_zip_that_cannot_be_opened_is_named(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match="a.zip cannot be read.*; download it again"):
        contents(path)
