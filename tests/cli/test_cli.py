# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command: output, files and exit status."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import ks4_ccd
from ks4_ccd.cli import main
from ks4_ccd.cli._command import VERBS

SIZE = ["--image-size", "120", "100"]


@pytest.fixture
def folder(tmp_path, make_map, make_key, make_ccd):
    """Return a folder with two images of field 0403 in R, and their map."""
    make_map((6, 5), key=make_key(), empty=0).save(tmp_path / "maps")
    meta = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    for name in ("a.fits", "b.fits"):
        make_ccd((100, 120), meta=meta).write(tmp_path / name)
    return tmp_path


def run(*words):
    """Run the command."""
    return main([str(word) for word in words])


def test_the_default_target_is_beside_the_image(folder, capsys):
    """The default target is IMAGE_cal.fits."""
    maps = folder / "maps"
    assert run("calibrate", folder / "a.fits", "--maps", maps, *SIZE) == 0
    assert fits.getheader(folder / "a_cal.fits")["MAGZERO"] == 30
    assert "a_cal.fits" in capsys.readouterr().out


def test_calibrate_many_into_a_folder(folder, capsys):
    """A bad image does not stop the others; the exit status is 1."""
    (folder / "c.fits").write_bytes(b"nonsense")
    images = [folder / name for name in ("a.fits", "c.fits", "b.fits")]
    out = folder / "out"
    assert run("calibrate", *images, "--maps", folder / "maps", *SIZE, "-o", out) == 1
    assert {p.name for p in out.iterdir()} == {"a_cal.fits", "b_cal.fits"}
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "c.fits" in errors[0]


def test_calibrate_passes_its_options_on(folder):
    """Unit, method and smoothing are applied."""
    target = folder / "x.fits"
    options = ["--unit", "nJy", "--method", "nearest", "--smooth", "1.5"]
    command = ["calibrate", folder / "a.fits", "--maps", folder / "maps", *SIZE]
    assert run(*command, *options, "-o", target) == 0
    header = fits.getheader(target)
    assert (header["BUNIT"], header["KS4ZPMTH"]) == ("nJy", "nearest")
    assert header["KS4ZPMAP"].endswith("smoothed(1.5)")


def test_denoise_has_edges_or_none(folder, capsys):
    """Edges are counted from 1; --smooth and --denoise exclude each other."""
    target = folder / "x.fits"
    command = ["calibrate", folder / "a.fits", "--maps", folder / "maps", *SIZE]
    assert run(*command, "--denoise", "x=51", "y=31,61", "-o", target) == 0
    with fits.open(target) as hdus:
        assert hdus[0].header["KS4ZPMAP"].endswith("denoised(edges=1+2)")
    assert run(*command, "--denoise", "none", "-o", folder / "y.fits") == 0
    header = fits.getheader(folder / "y.fits")
    assert header["KS4ZPMAP"].endswith("denoised(edges=0+0)")
    for number, words in enumerate((["--denoise"], ["--denoise", "auto"])):
        found = folder / f"auto{number}.fits"
        assert run(*command, *words, "-o", found) == 0
        # Few cells: no edges are looked for.
        name = fits.getheader(found)["KS4ZPMAP"]
        assert name.endswith("denoised(edges=0+0)")
    assert run(*command, "--denoise", "z=3", "-o", folder / "z.fits") == 1
    assert "--denoise must be given as x=1375" in capsys.readouterr().err
    assert run(*command, "--denoise", "x=1e6", "-o", folder / "z.fits") == 1
    assert "along x, found 999999" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(*command, "--denoise", "none", "--smooth", "-o", folder / "z.fits")
    assert not (folder / "z.fits").exists()


def test_calibrate_and_batch_convert_electrons(folder, capsys):
    """--gain is in electron / adu; without it images in electrons are refused."""
    maps = ["--maps", folder / "maps", *SIZE]
    counts, target = folder / "counts.fits", folder / "x.fits"
    assert run("calibrate", folder / "a.fits", *maps, "-o", counts) == 0
    with fits.open(folder / "a.fits", mode="update") as hdus:
        hdus[0].data *= 4.8
        hdus[0].header["BUNIT"] = "electron"
    command = ["calibrate", folder / "a.fits", *maps, "-o", target]
    assert run(*command) == 1
    assert "--gain 4.8" in capsys.readouterr().err
    for gain in ("0", "-4.8", "nan"):
        assert run(*command, "--gain", gain) == 1
        assert "gain must be a positive Quantity" in capsys.readouterr().err
    assert not target.exists()
    assert run(*command, "--gain", "4.8") == 0
    out = folder / "out"
    batch = ["batch", folder / "a.fits", *maps, "--workers", "1", "-o", out]
    assert run(*batch, "--gain", "4.8") == 0
    expected = fits.getdata(counts)
    for path in (target, out / "a_cal.fits"):
        np.testing.assert_allclose(fits.getdata(path), expected, rtol=1e-5)
        assert fits.getheader(path)["BUNIT"] == "adu"


def test_calibrate_corrects_positions(folder, make_ccd, tan_wcs):
    """The map of --offsets is selected by field and band, of the header or given."""
    key = ks4_ccd.MapKey("dra", "0403", "R", "single")
    dra, ddec = np.full((2, 6, 5), 0.1)
    grid = ks4_ccd.MapGrid((6, 5), 20)
    ks4_ccd.OffsetMap(dra, ddec, grid=grid, key=key).save(folder / "offsets")
    meta = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    ccd = make_ccd((100, 120), meta=meta, wcs=tan_wcs((100, 120), field="0403"))
    ccd.write(folder / "sky.fits")
    command = ["calibrate", folder / "sky.fits", "--maps", folder / "maps", *SIZE]
    command += ["--offsets", folder / "offsets"]
    for more in ([], ["--field", "0403", "--band", "R"]):
        assert run(*command, *more, "-o", folder / "x.fits", "--overwrite") == 0
        header = fits.getheader(folder / "x.fits")
        assert (header["CPDIS1"], header["CPDIS2"]) == ("LOOKUP", "LOOKUP")
        assert "0403" in header["KS4OFMAP"]


def test_calibrate_an_image_without_a_field_in_its_header(folder, make_ccd, capsys):
    """--field and --band specify the map."""
    make_ccd((100, 120)).write(folder / "bare.fits")
    command = ["calibrate", folder / "bare.fits", "--maps", folder / "maps", *SIZE]
    assert run(*command) == 1
    assert "FIELD1" in capsys.readouterr().err
    assert run(*command, "--field", "0403", "--band", "R") == 0
    assert run(*command, "--field", "0403") == 1


def test_errors_are_one_line(folder, capsys):
    """With --debug they have a traceback."""
    command = ["calibrate", folder / "a.fits", "--maps", folder / "nowhere"]
    assert run(*command) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "nowhere" in errors
    with pytest.raises(ks4_ccd.MapNotFoundError):
        run("--debug", *command)


def test_an_impossible_target_is_one_line(folder, capsys):
    """The folder of the target cannot be created."""
    command = ["calibrate", folder / "a.fits", "--maps", folder / "maps", *SIZE]
    assert run(*command, "-o", folder / "a.fits" / "x.fits") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_compressed_target_is_refused(folder, capsys):
    """A target with the suffix of a compressed file is not created as a folder."""
    command = ["calibrate", folder / "a.fits", "--maps", folder / "maps", *SIZE]
    assert run(*command, "-o", folder / "x.fits.gz") == 1
    assert "expected an uncompressed file" in capsys.readouterr().err
    assert not (folder / "x.fits.gz").exists()


def test_two_images_need_two_targets(folder, capsys):
    """One target for two images, and two images of one name, are refused."""
    images = [folder / "a.fits", folder / "b.fits"]
    maps = ["--maps", folder / "maps"]
    assert run("calibrate", *images, *maps, "-o", folder / "x.fits") == 1
    assert "2 images" in capsys.readouterr().err
    assert run("calibrate", images[0], images[0], *maps, "-o", folder / "out") == 1
    assert "expected images with different names" in capsys.readouterr().err


def test_warnings_are_one_line(tmp_path, make_map, make_key, make_ccd, capsys):
    """Calibration of a flagged field issues a warning of one line."""
    make_map((6, 5), key=make_key("1311", "V"), empty=0).save(tmp_path / "maps")
    meta = fits.Header({"FIELD1": "1311", "FILTER": "V"})
    make_ccd((100, 120), meta=meta).write(tmp_path / "a.fits")
    command = ["calibrate", tmp_path / "a.fits", "--maps", tmp_path / "maps", *SIZE]
    assert run(*command) == 0
    assert "KS4Warning: DR1 flags field 1311" in capsys.readouterr().err


def test_maps_lists_the_existing_maps(folder, capsys):
    """The command prints a text table of the maps."""
    assert run("maps", folder / "maps") == 0
    header, _, row = capsys.readouterr().out.splitlines()
    assert "aperture" in header
    assert row.split()[:2] == ["zeropoint", "0403"]


@pytest.mark.parametrize("form", ["ascii.csv", "ascii.ecsv", "votable", "fits"])
def test_maps_in_formats_of_astropy(folder, capfdbinary, form):
    """The output can be read as the table of the library."""
    assert run("maps", folder / "maps", "--format", form) == 0
    path = folder / "table"
    path.write_bytes(capfdbinary.readouterr().out)
    table = Table.read(path, format=form)
    assert [str(word) for word in table["aperture"]] == ["APER5"]


def test_maps_refuses_an_unknown_format(folder, capsys):
    """The error is one line."""
    assert run("maps", folder / "maps", "--format", "nonsense") == 1
    assert "--format nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["values", "error", "count"])
def test_plot_writes_a_png(folder, part):
    """The plot is a PNG of the selected map."""
    pytest.importorskip("matplotlib")
    out = folder / "map.png"
    words = ["--field", "0403", "--band", "R", "--part", part, *SIZE, "-o", out]
    assert run("plot", folder / "maps", *words) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("part", ["values", "error", "count"])
def test_plot_writes_a_png_of_offsets(folder, part):
    """The plot is a PNG of the offsets."""
    pytest.importorskip("matplotlib")
    from ks4_ccd import MapGrid, MapKey, OffsetMap

    flat = np.full((6, 5), 0.1)
    grid, key = MapGrid((6, 5), 20), MapKey("dra", "0403", "R")
    OffsetMap(flat, flat, flat, flat, grid=grid, key=key).save(folder / "maps")
    out = folder / "map.png"
    words = ["--field", "0403", "--band", "R", "--kind", "offset", "--part", part]
    assert run("plot", folder / "maps", *words, *SIZE, "-o", out) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_plot_names_a_missing_map(folder, capsys):
    """If the map does not exist, the message names it."""
    assert run("plot", folder / "maps", "--field", "0403", "--band", "I") == 1
    assert "0403" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("122.1", "-72.3"), ("8:08:24", "-72:18:00"), ("8h8m24s", "-72d18m")]
)
def test_field_accepts_positions(capsys, words):
    """Positions are in degrees, or in hours and degrees."""
    assert run("field", *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["field", "0403.122-72"]
    assert lines[3].split()[-1] == "yes"


@pytest.mark.parametrize("words", [("122", "45"), ("nonsense", "-72"), ("10", "-95")])
def test_field_refuses_other_positions(capsys, words):
    """Positions north of the survey, and invalid ones, are refused."""
    assert run("field", *words) == 1
    assert capsys.readouterr().err.startswith("ks4-ccd: ")


@pytest.mark.parametrize("words", [[], ["nonsense"], ["calibrate"], ["plot", "x"]])
def test_wrong_usage_exits_with_2(words, capsys):
    """The usage is printed, as by argparse."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_has_descriptions_and_examples(verb, capsys):
    """Each command has a description and an example, each option a text."""
    with pytest.raises(SystemExit) as caught:
        main([verb.name, "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert verb.description in shown
    assert f"example: ks4-ccd {verb.example}" in shown
    for option in options_of(verb):
        assert option.settings["help"].partition(" ")[0] in shown
        assert "None" not in shown


def test_help_lists_the_commands(capsys):
    """Each command has a summary and an example."""
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for verb in VERBS:
        assert f"{verb.name} " in shown
        assert verb.summary in shown
        assert f"ks4-ccd {verb.example}\n" in shown


def options_of(verb):
    """Return the options of a command, including those of groups."""
    return [o for part in verb.options for o in getattr(part, "options", [part])]


def test_options_are_the_same_in_all_commands():
    """Options of one name have the same type and action."""
    found = {}
    for option in (o for verb in VERBS for o in options_of(verb)):
        meaning = {k: option.settings.get(k) for k in ("type", "action")}
        assert found.setdefault(option.name, meaning) == meaning, option.name


def test_maps_of_another_camera(folder, make_map, make_key, make_ccd, capsys):
    """Field, band, mode and aperture are free names."""
    key = make_key(field="M31 north", band="g", mode="stack", aperture="PSF")
    make_map((6, 5), key=key, empty=0).save(folder / "other")
    names = ["--field", "M31 north", "--band", "g", "--mode", "stack"]
    names += ["--aperture", "PSF", *SIZE]
    bare, out = folder / "bare.fits", folder / "x.fits"
    make_ccd((100, 120)).write(bare)
    command = ["calibrate", bare, "--maps", folder / "other", *names]
    assert run(*command, "-o", out) == 0
    assert "M31" in fits.getheader(out)["KS4ZPMAP"]
    assert run("plot", folder / "other", *names, "-o", folder / "map.png") == 0
    assert run("plot", folder / "maps", *names, "-o", folder / "map.png") == 1
    assert "M31 north" in capsys.readouterr().err


def test_the_command_runs_as_a_process(folder):
    """The command exits cleanly if the reader closed the pipe."""
    command = [sys.executable, "-m", "ks4_ccd.cli"]
    version = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.strip() == ks4_ccd.__version__
    many = folder / "many"
    many.mkdir()
    for number in range(2000):
        np.save(many / f"zp_map_{number:04d}_R_single_APER5.npy", np.ones((2, 2)))
    with subprocess.Popen(
        [*command, "maps", many], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_one_of_several_images_is_calibrated(folder, capsys):
    """--hdu is a number, a name, or a name and version."""
    source = folder / "mef.fits"
    header = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    hdus = [fits.PrimaryHDU(header=header)]
    for value, name in enumerate(("KK", "MM"), 1):
        data = np.full((100, 120), value, np.float32)
        hdus.append(fits.ImageHDU(data, name=name))
    fits.HDUList(hdus).writeto(source)
    command = ["calibrate", source, "--maps", folder / "maps", *SIZE, "--overwrite"]
    assert run(*command) == 1
    assert "1 (KK), 2 (MM)" in capsys.readouterr().err
    for hdu in ("2", "mm", "MM,1"):
        assert run(*command, "--hdu", hdu) == 0
        assert fits.getdata(folder / "mef_cal.fits").mean() > 1.8
    assert run(*command, "--hdu", "NN") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["calibrate", "a.fits", "--maps", "maps"],
        ["batch", "a.fits", "--maps", "maps"],
        ["catalog", "a.cat", "--maps", "maps"],
        ["plot", "maps"],
        ["ingest", "maps"],
        ["fetch"],
        ["build", "a.cat", "--reference", "b.fits", "--field", "0403", "--band", "R"],
        ["validate", "a.cat", "--reference", "b.fits", "--band", "R"],
    ],
)
def test_an_empty_name_is_refused(words, capsys):
    """Pathlib interprets it as the current folder."""
    with pytest.raises(SystemExit) as caught:
        main([*words, "-o", ""])
    assert caught.value.code == 2
    assert "-o: expected the name of a file or folder" in capsys.readouterr().err
