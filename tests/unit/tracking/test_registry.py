"""Which artifact is the model, and what the registry has afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.errors import TrackingError
from studyflow.tracking.mlflow import embedded_uri
from studyflow.tracking.registry import ModelRegistry, choose_artifact, model_name


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (("trial.log",), None),
        (("curve.png", "curves.csv", "trial.log"), None),
        (("curve.png", "weights.pt", "trial.log"), "weights.pt"),
        (("weights.pt", "model.txt", "trial.log"), "model.txt"),
        (("curve.png", "model"), "model"),
    ],
)
def test_the_model_is_the_only_artifact_or_the_one_of_that_name(
    names: tuple[str, ...], model: str | None
) -> None:
    assert choose_artifact(names) == model


@pytest.mark.parametrize("names", [("a.pt", "b.pt"), ("model.pt", "model.onnx")])
def test_of_several_that_may_be_it_none_is_guessed(names: tuple[str, ...]) -> None:
    with pytest.raises(TrackingError, match=r"can be the model: .*--artifact"):
        choose_artifact(names)

    assert choose_artifact(names, names[1]) == names[1]


def test_a_name_holds_no_slash_and_no_colon() -> None:
    assert model_name("team: a//b") == "team- a-b"


@pytest.mark.slow
def test_an_artifact_gets_one_version_however_often_and_the_alias_moves(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = embedded_uri(tmp_path)
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "files").as_uri())
    registry, versions = ModelRegistry(uri), []
    for _ in range(2):
        run = client.create_run(experiment).info.run_id
        client.log_text(run, "weights", "model.pt")
        client.log_text(run, "weights", "exports/model.onnx")
        for artifact in ("model.pt", "model.pt", "exports/model.onnx", "exports"):
            versions.append(
                registry.register(
                    run, artifact, name="m", alias="champion", description="d", tags={"a": "b"}
                )
            )
        assert registry.artifacts(run) == ("exports", "model.pt")

    assert versions == ["1", "1", "2", "3", "4", "4", "5", "6"]
    assert str(client.get_model_version_by_alias("m", "champion").version) == "6"
    sources = [
        str(client.get_model_version("m", v).source).rpartition("/")[2] for v in ("1", "2", "3")
    ]
    assert sources == ["artifacts", "exports", "exports"]
    registry.register(run, "exports/", name="m", alias="folder", description="d", tags={})
    version = client.get_model_version_by_alias("m", "folder")
    assert "model.onnx" in version.tags["studyflow.files"]
    with pytest.raises(TrackingError, match=r"no artifact 'nosuch.pt' \(there are: exports, model"):
        registry.register(run, "nosuch.pt", name="m", alias="a", description="", tags={})


@pytest.mark.slow
@pytest.mark.fault("F85")
def test_a_model_that_was_replaced_is_told_from_the_one_that_was_registered(
    tmp_path: Path,
) -> None:
    from mlflow import MlflowClient

    uri = embedded_uri(tmp_path)
    client = MlflowClient(uri)
    folder = tmp_path / "files"
    experiment = client.create_experiment("e", artifact_location=folder.as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "weights", "net/model.pt")
    client.log_text(run, "{}", "net/config.json")
    registry = ModelRegistry(uri)

    def register() -> str:
        tags = {"studyflow.study": "demo"}
        return registry.register(run, "net", name="m", alias="champion", description="d", tags=tags)

    assert register() == register() == "1"
    (sound,) = registry.of_study("demo")
    assert (sound.name, sound.version, sound.aliases) == ("m", "1", ("champion",))
    assert sound.is_sound
    assert registry.of_study("another") == ()

    saved = folder / run / "artifacts" / "net"
    (saved / "model.pt").write_text("WEIGHTS")
    (saved / "hook.py").write_text("import os")
    (saved / "config.json").unlink()
    (replaced,) = registry.of_study("demo")
    assert not replaced.is_sound
    assert replaced.problem == "model.pt was changed, config.json is gone, hook.py is new"
    with pytest.raises(TrackingError, match=r"Version 1 of .* 'm' is not what was registered: mod"):
        register()

    client.delete_model_version_tag("m", "1", "studyflow.digest")
    (unknown,) = registry.of_study("demo")
    assert (unknown.problem, unknown.is_sound) == (None, False)


@pytest.mark.slow
def test_a_registry_of_many_versions_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr("studyflow.tracking.registry.PAGE_SIZE", 2)
    uri = embedded_uri(tmp_path)
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "files").as_uri())
    run = client.create_run(experiment).info.run_id
    for name in "abcde":
        client.log_text(run, name, f"{name}.pt")
    registry, tags = ModelRegistry(uri), {"studyflow.study": "demo"}

    for _ in range(2):  # the second time each finds its own version again
        for name in "abcde":
            model = {"name": name, "alias": "champion", "description": "", "tags": tags}
            assert registry.register(run, f"{name}.pt", **model) == "1"  # type: ignore[arg-type]

    assert {model.name for model in registry.of_study("demo")} == set("abcde")
