"""The report when only some samples are drawn."""

import re


def shown(experiment):
    page = (experiment / "report" / "index.html").read_text()
    return set(re.findall(r'<img src="overlays/(\w+)\.png"', page))


def test_one_more_sample_keeps_the_others(experiment, run):
    before = shown(experiment)
    assert len(before) == 2  # [visualize] max_samples of the setup
    (other,) = {"2227fd", "4d0967", "8cdbdd"} - before
    files = {p: p.stat().st_mtime_ns for p in (experiment / "report" / "overlays").glob("*.png")}
    done = run("--do", "visualize", "-id", experiment, "--sample", other)
    assert done.code == 0, done.err
    assert shown(experiment) == before | {other}
    assert {path: path.stat().st_mtime_ns for path in files} == files
    page = (experiment / "report" / "index.html").read_text()
    assert all(re.search(rf'<td><a href="#overlay-\d">{name}</a>', page) for name in before)


def test_pictures_of_other_instances_are_not_shown(experiment, run):
    (name, *_) = sorted(shown(experiment))
    changed = ("--set", "vote_instances.patch_threshold=0.61")
    words = ("--do", "label", "postprocess", "evaluate", "visualize")
    done = run(*words, "-id", experiment, "--sample", name, *changed)
    assert done.code == 0, done.err
    assert shown(experiment) == {name}
