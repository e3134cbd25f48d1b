# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Batches of images: finished, skipped, repeated and failed ones."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import ks4_ccd
from ks4_ccd import (
    KS4Error,
    KS4Warning,
    MapLibrary,
    calibrate_file,
    calibrate_many,
)
from ks4_ccd.cli import main
from ks4_ccd.survey import _task as batch_task
from ks4_ccd.survey._lock import RunLock, writing
from ks4_ccd.survey._manifest import (
    Manifest,
    ManifestRow,
    message_of,
    readable,
)

distributed = pytest.importorskip("distributed")

SHAPE = (100, 120)


@pytest.fixture(scope="module")
def client():
    """Return a client of two processes that all tests share."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": ":0"},
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def survey(tmp_path, make_map, make_key, make_ccd):
    """Return a folder with three images of field 0403 in R, and their map."""
    make_map((6, 5), key=make_key(), empty=0).save(tmp_path / "maps")
    meta = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    for seed, name in enumerate("abc"):
        ccd = make_ccd(SHAPE, meta=meta, kind="std", seed=seed)
        ccd.write(tmp_path / f"{name}.fits")
    return tmp_path


@pytest.fixture
def run(survey, client):
    """Return a function that calibrates images of the survey into the folder `out`."""

    def calibrate(names="abc", **options):
        images = [survey / f"{name}.fits" for name in names]
        library = MapLibrary(survey / "maps", image_shape=SHAPE)
        options = {"client": client, "progress": False} | options
        return calibrate_many(images, library, survey / "out", **options)

    return calibrate


def outcomes(table):
    """Return the outcomes in a table, in its order."""
    return " ".join(table["outcome"])


def contents(folder):
    """Return the results in a folder, byte for byte."""
    return {path.name: path.read_bytes() for path in folder.glob("*.fits")}


def recorded(survey):
    """Return the manifest on disk."""
    return Table.read(survey / "out" / "manifest.ecsv")


def touch(path):
    """Change the modification time of a file."""
    os.utime(path, ns=(1, os.stat(path).st_mtime_ns + 10**9))


def test_results_are_those_of_single_files(survey, run):
    """With all options, results are those of calibrate_file, byte for byte."""
    options = {"method": "nearest", "unit": "nJy", "zeropoint": 29.0}
    options["denoise"] = (59.0,), ()
    options |= {"zp_error": "ignore", "uncalibrated": "fill", "error_kind": "median"}
    table = run(**options)
    assert outcomes(table) == "done done done"
    (survey / "single").mkdir()
    with MapLibrary(survey / "maps", image_shape=SHAPE) as library:
        for name in "abc":
            target = survey / "single" / f"{name}_cal.fits"
            calibrate_file(survey / f"{name}.fits", target, library, **options)
    assert contents(survey / "out") == contents(survey / "single")


def test_positions_are_corrected(survey, run, make_ccd, tan_wcs):
    """Offsets are those of the field and band of each image."""
    key = ks4_ccd.MapKey("dra", "0403", "R", "single")
    dra, ddec = np.full((2, 6, 5), 0.1)
    grid = ks4_ccd.MapGrid((6, 5), 20)
    ks4_ccd.OffsetMap(dra, ddec, grid=grid, key=key).save(survey / "offsets")
    meta = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    make_ccd(SHAPE, meta=meta, wcs=tan_wcs(SHAPE, field="0403")).write(
        survey / "sky.fits"
    )
    offsets = MapLibrary(survey / "offsets", image_shape=SHAPE)
    (row,) = run(["sky"], offsets=offsets)
    assert len(row["maps"].split()) == 2
    assert fits.getheader(survey / "out" / "sky_cal.fits")["CPDIS1"] == "LOOKUP"


def test_the_manifest_has_one_row_per_image(survey, run):
    """The manifest has the rows of the returned table."""
    table = run()
    read = recorded(survey)
    assert read.colnames == table.colnames == list(ManifestRow._fields)
    read.sort("image")
    assert [list(row) for row in read.filled("")] == [list(row) for row in table]
    row = table[0]
    assert (row["image"], row["target"]) == (str(survey / "a.fits"), "a_cal.fits")
    assert row["input_size"] == (survey / "a.fits").stat().st_size
    assert len(row["input_checksum"]) == 64
    assert row["maps"] == "zp_map_0403_R_single_APER5.npy"
    assert row["seconds"] > 0
    assert 10 < row["memory"] < 2000
    assert row["version"] == ks4_ccd.__version__
    assert read.meta["options"][row["options"]]["aperture"] == "APER5"


def test_a_second_run_skips_finished_images(survey, run):
    """No file is changed, and no worker is needed."""
    first = run()
    before = {path.name: path.stat().st_mtime_ns for path in (survey / "out").iterdir()}
    second = run(client=None)
    assert outcomes(second) == "skipped skipped skipped"
    assert list(second["input_checksum"]) == list(first["input_checksum"])
    del before["manifest.ecsv"]
    assert all(
        (survey / "out" / name).stat().st_mtime_ns == before[name] for name in before
    )


def change_image(survey):
    """Change a pixel."""
    with fits.open(survey / "b.fits", mode="update") as hdus:
        hdus[0].data[0, 0] += 1


def remove_target(survey):
    """Remove a result."""
    (survey / "out" / "b_cal.fits").unlink()


def cut_target(survey):
    """Truncate a result."""
    os.truncate(survey / "out" / "b_cal.fits", 2880)


@pytest.mark.parametrize("change", [change_image, remove_target, cut_target])
def test_changed_images_are_calibrated_again(survey, run, change):
    """An image whose file or result changed is calibrated again, others are skipped."""
    run()
    change(survey)
    assert outcomes(run()) == "skipped done skipped"
    with MapLibrary(survey / "maps", image_shape=SHAPE) as library:
        calibrate_file(survey / "b.fits", survey / "b_cal.fits", library)
    new = (survey / "out" / "b_cal.fits").read_bytes()
    assert new == (survey / "b_cal.fits").read_bytes()
    assert outcomes(run(client=None)) == "skipped skipped skipped"


def test_other_times_of_equal_contents_change_nothing(survey, run):
    """Checksums are compared once, and the new times are recorded."""
    run()
    touch(survey / "b.fits")
    touch(next((survey / "maps").iterdir()))
    assert outcomes(run()) == "skipped skipped skipped"
    started = time.perf_counter()
    assert outcomes(run(client=None)) == "skipped skipped skipped"
    assert time.perf_counter() - started < 1


def test_other_options_and_maps_calibrate_all_again(survey, run, make_map, make_key):
    """Results of other options are replaced."""
    run()
    assert outcomes(run(method="nearest")) == "done done done"
    make_map((6, 5), key=make_key(), empty=0, seed=9).save(survey / "maps")
    assert outcomes(run(method="nearest")) == "done done done"
    make_map((6, 5), key=make_key("0404"), empty=0, seed=9).save(survey / "maps")
    assert outcomes(run(method="nearest")) == "skipped skipped skipped"


def test_bad_images_do_not_stop_the_batch(survey, run):
    """The other images are calibrated, and the failed ones are tried again."""
    (survey / "d.fits").write_bytes(b"nonsense")
    table = run("abcde")
    assert outcomes(table) == "done done done failed failed"
    assert "d.fits" in table["message"][3]
    assert "No such file" in table["message"][4]
    assert not list((survey / "out").glob(".*"))
    (survey / "d.fits").write_bytes((survey / "a.fits").read_bytes())
    assert outcomes(run("abcde")) == "skipped skipped skipped done failed"


def test_a_missing_image_is_a_failure(survey, run):
    """A missing image fails although its result exists; if it is back, it is done."""
    run()
    (survey / "b.fits").rename(survey / "kept")
    assert outcomes(run()) == "skipped failed skipped"
    (survey / "kept").rename(survey / "b.fits")
    assert outcomes(run()) == "skipped done skipped"


def test_other_files_are_not_replaced(survey, run):
    """Files that no batch wrote need `overwrite`."""
    (survey / "out").mkdir()
    strange = survey / "out" / "b_cal.fits"
    strange.write_bytes(b"mine")
    for _ in range(2):
        table = run()
        assert table["outcome"][1] == "failed"
        assert "overwrite" in table["message"][1]
        assert strange.read_bytes() == b"mine"
    assert outcomes(run(overwrite=True)) == "skipped done skipped"


def test_flags_are_reported(survey, run, make_map, make_key, make_ccd):
    """Flags are in a warning and in the manifest."""
    make_map((6, 5), key=make_key("1311", "V"), empty=0).save(survey / "maps")
    meta = fits.Header({"FIELD1": "1311", "FILTER": "V"})
    make_ccd(SHAPE, meta=meta).write(survey / "f.fits")
    with pytest.warns(KS4Warning, match=r"f\.fits: DR1 flags field 1311"):
        run("f")
    assert "flags" in recorded(survey)["message"][0]


def test_low_space_is_reported(run, monkeypatch):
    """A warning is issued before any file is written."""
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("ks4_ccd.survey.batch.shutil.disk_usage", lambda _: usage)
    with pytest.warns(KS4Warning, match="GB free: free space"):
        run()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"method": "magic"}, "method"),
        ({"mode": "magic"}, "mode"),
        ({"aperture": "APER4"}, "aperture"),
        ({"zeropoint": "x"}, "zeropoint"),
        ({"unit": "km"}, "unit"),
        ({"gain": 4.8}, "gain"),
        ({"smooth": "x"}, "smooth"),
        ({"smooth": 1, "denoise": "none"}, "found both"),
        ({"client": None, "workers": 0}, "workers"),
        ({"client": None, "workers": 1.5}, "workers"),
        ({"workers": 2}, "workers"),
        ({"client": "tcp://here"}, "client"),
    ],
)
def test_wrong_options(survey, run, options, word):
    """Wrong options are refused before any image is calibrated."""
    with pytest.raises(KS4Error, match=word):
        run(**options)
    assert not list(survey.glob("out/*.fits"))


def test_names_of_another_camera(survey, run, make_map):
    """Mode and aperture are free names, if the library contains them."""
    key = ks4_ccd.MapKey("zp", "0403", "R", "deep", "PSF")
    make_map((6, 5), key=key, empty=0).save(survey / "maps")
    assert outcomes(run("a", mode="deep", aperture="PSF")) == "done"
    with pytest.raises(KS4Error, match="aperture must be one of APER5, PSF"):
        run("a", mode="deep", aperture="APER4")


def test_special_files_do_not_stop_the_batch(survey, run):
    """Reading a named pipe would block."""
    os.mkfifo(survey / "d.fits")
    table = run("ad")
    assert outcomes(table) == "done failed"
    assert "found a named pipe" in table["message"][1]


def test_wrong_paths(survey, client):
    """Missing libraries and folders, and targets that are sources, are refused."""
    image, maps = survey / "a.fits", survey / "maps"
    with pytest.raises(KS4Error, match="nowhere"):
        calibrate_many([image], survey / "nowhere", survey / "out", client=client)
    with pytest.raises(KS4Error, match=r"a\.fits"):
        calibrate_many([image], maps, image / "out", client=client)
    with pytest.raises(KS4Error, match="different names"):
        calibrate_many([image, image], maps, survey / "out", client=client)
    with pytest.raises(KS4Error, match="out_dir must be the name"):
        calibrate_many([image], maps, "", client=client)
    with pytest.raises(KS4Error, match="list"):
        calibrate_many(image, maps, survey / "out", client=client)
    image.rename(survey / "a_cal.fits")
    images = [survey / "a_cal.fits", survey / "a.fits"]
    with pytest.raises(KS4Error, match="replaced"):
        calibrate_many(images, maps, survey, client=client)
    assert not (survey / "out").exists()


def test_one_of_several_images(survey, run):
    """Another value of hdu= calibrates the image again."""
    header = fits.Header({"FIELD1": "0403", "FILTER": "R"})
    hdus = [fits.PrimaryHDU(header=header)]
    for value, name in enumerate(("KK", "MM"), 1):
        data = np.full(SHAPE, value, np.float32)
        hdus.append(fits.ImageHDU(data, name=name))
    fits.HDUList(hdus).writeto(survey / "mef.fits")
    table = run(["mef"])
    assert "1 (KK), 2 (MM)" in table["message"][0]
    for hdu, value in (("KK", 1), (2, 2)):
        assert outcomes(run(["mef"], hdu=hdu)) == "done"
        data = fits.getdata(survey / "out" / "mef_cal.fits")
        assert 0.8 < data.mean() / value < 1.2
    with pytest.raises(KS4Error, match="hdu must be"):
        run(["mef"], hdu=1.5)


def test_masks_beside_images_count_as_input(survey, run):
    """The result has the mask, and a new or changed mask calibrates it again."""
    run()
    for value in (1, 0):
        mask = np.full(SHAPE, value, np.uint8)
        path = survey / "b.mask.fits"
        fits.PrimaryHDU(mask).writeto(path, overwrite=True)
        assert outcomes(run()) == "skipped done skipped"
        result = fits.getdata(survey / "out" / "b_cal.fits", "MASK")
        np.testing.assert_array_equal(result, mask)
    sizes = (survey / "b.fits").stat().st_size, path.stat().st_size
    assert sum(sizes) in recorded(survey)["input_size"]
    assert outcomes(run(client=None)) == "skipped skipped skipped"


def test_files_that_appear_meanwhile_are_kept(survey, run, monkeypatch):
    """A file that appears while the batch is planned is not replaced."""
    import ks4_ccd.survey.batch as batch

    plan, strange = batch.plan_batch, survey / "out" / "b_cal.fits"

    def then_write(*arguments):
        planned = plan(*arguments)
        strange.write_bytes(b"mine")
        return planned

    monkeypatch.setattr(batch, "plan_batch", then_write)
    table = run()
    assert outcomes(table) == "done failed done"
    assert "already exists" in table["message"][1]
    assert strange.read_bytes() == b"mine"


def test_a_batch_without_images(survey, run):
    """A batch of no images returns an empty table."""
    assert len(run("")) == 0


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can write"
)
def test_a_folder_that_may_not_be_written(survey, run):
    """The error is raised before any image is calibrated."""
    (survey / "out").mkdir(mode=0o500)
    with pytest.raises(KS4Error, match="cannot write"):
        run()


def test_one_run_at_a_time(survey, run):
    """The second run is refused, also while only a worker of the first is alive."""
    (survey / "out").mkdir()
    path = survey / "out" / "manifest.ecsv.lock"
    with RunLock(path) as lock:
        lock.share([])
        with pytest.raises(KS4Error, match=f"process {os.getpid()} on"):
            run()
        with writing(path):
            lock.wait(0.1)
            with pytest.raises(KS4Error, match="process"):
                run()
    assert not path.exists()
    with pytest.raises(KS4Error, match="ended"), writing(path):
        pass
    assert outcomes(run()) == "done done done"


def test_partial_files_of_a_killed_run_are_removed(survey, run):
    """Partial files of the targets are removed, and no others."""
    (survey / "out").mkdir()
    ours = survey / "out" / ".a_cal.fits.0123456789ab.part"
    others = survey / "out" / ".x_cal.fits.0123456789ab.part"
    for path in (ours, others):
        path.touch()
    run()
    assert not ours.exists()
    assert others.exists()


def test_an_incomplete_line_is_dropped(survey, run):
    """The image of an incomplete line is calibrated again."""
    run()
    path = survey / "out" / "manifest.ecsv"
    manifest = Manifest(path, {})
    row = manifest.get(str(survey / "b.fits"))
    manifest.append(row._replace(outcome="started"))
    manifest.append(row)
    path.write_bytes(path.read_bytes()[:-20])
    assert outcomes(run()) == "skipped done skipped"
    assert len(recorded(survey)) == 3


def test_an_invalid_manifest_is_kept(survey, run):
    """A file of another program, or a damaged one, is kept."""
    (survey / "out").mkdir()
    path = survey / "out" / "manifest.ecsv"
    for text in ("", "hello\n", "# %ECSV 1.0\n# ---\n# datatype:\nx\n1\n"):
        path.write_text(text)
        with pytest.raises(KS4Error, match=r"manifest\.ecsv cannot be read"):
            run()
        assert path.read_text() == text


def test_manifest_keeps_any_text(tmp_path):
    """Commas, quotes, line breaks and bytes that are not UTF-8 are kept."""
    name = readable('a "b", \n\udce9 é  c.fits')
    row = ManifestRow(name, "x", "failed", message_of(ValueError("1,\n2")))
    Manifest(tmp_path / "m.ecsv", {}).append(row)
    manifest = Manifest(tmp_path / "m.ecsv", {})
    assert manifest.get(name) == row
    # Another image of the same target replaces it.
    manifest.append(row._replace(image="y"))
    assert [row.image for row in Manifest(tmp_path / "m.ecsv", {})] == ["y"]


def test_an_interrupt_waits_for_the_workers_of_others(survey, run, monkeypatch):
    """Workers of others finish their images, and the next run resumes."""
    append = Manifest.append

    def interrupt(self, row):
        if row.outcome == "done":
            raise KeyboardInterrupt
        append(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    left = {path.name for path in (survey / "out").iterdir()}
    assert {name for name in left if "_cal" not in name} == {"manifest.ecsv"}
    assert not any(name.startswith(".") for name in left)
    assert set(recorded(survey)["outcome"]) == {"started"}
    assert outcomes(run()) == "done done done"


def test_a_worker_that_dies_fails_one_image(run, monkeypatch):
    """Images that waited for the dead worker are calibrated."""

    # A local function is pickled by value, and needs no import in the workers.
    def die(task):
        if task.image.endswith("b.fits"):
            os._exit(1)
        return batch_task.calibrate_one(task)

    monkeypatch.setattr("ks4_ccd.survey.batch.calibrate_one", die)
    table = run(client=None, workers=1)
    assert outcomes(table) == "done failed done"
    assert "died" in table["message"][1]


def test_missing_dask_is_reported(run, monkeypatch):
    """The message contains the command that installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(KS4Error, match=r"ks4_ccd\[survey\]"):
        run(client=None)


def test_a_closed_client_is_refused(run, client):
    """A closed client is refused before any image is calibrated."""
    with distributed.Client(client.scheduler.address) as other:
        pass
    with pytest.raises(KS4Error, match="client"):
        run(client=other)


def test_command(survey, client, capsys):
    """Images by name and in a list, a scheduler, the report and the exit status."""
    (survey / "list.txt").write_text(f"{survey}/b.fits\n\n{survey}/c.fits\n")
    (survey / "d.fits").write_bytes(b"nonsense")
    command = ["batch", f"{survey}/a.fits", f"@{survey}/list.txt"]
    options = ["--maps", f"{survey}/maps", "--image-size", "120", "100"]
    options += ["-o", f"{survey}/out", "--scheduler", client.scheduler.address]
    assert main([*command, *options, "--method", "nearest"]) == 0
    assert "3 done, 0 skipped, 0 failed" in capsys.readouterr().out
    assert fits.getheader(survey / "out" / "a_cal.fits")["KS4ZPMTH"] == "nearest"
    assert main([*command, f"{survey}/d.fits", *options, "--method", "nearest"]) == 1
    printed = capsys.readouterr()
    assert "0 done, 3 skipped, 1 failed" in printed.out
    assert len(printed.err.splitlines()) == 1
    assert "d.fits" in printed.err
    assert main(["batch", "@nowhere", *options]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_function_needs_no_dask_to_be_imported():
    """The package can be imported without dask."""
    code = (
        "import sys, ks4_ccd.survey.batch, ks4_ccd.cli; "
        "print('distributed' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_dead_processes_are_replaced(survey, monkeypatch):
    """Dask does not restart processes that died while they started."""
    monkeypatch.setattr("ks4_ccd.survey._cluster._PATIENCE", 0.5)
    library = MapLibrary(survey / "maps", image_shape=SHAPE)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        cluster.scale(0)
        while client.nthreads():
            time.sleep(0.05)
        images = [survey / "a.fits"]
        table = calibrate_many(images, library, survey / "out", client=client)
    assert outcomes(table) == "done"
