"""Predictions of any classifier: read, checked, stored under pseudonyms, evaluated, deleted."""

import io
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import polars as pl
import pytest

from api_schemas.client import Client
from api_schemas.evaluations import EvaluationPost
from services.datasets.main import compose as compose_datasets
from services.evaluation.service import JUDGE, KEPT, NAMED, Judge
from services.kit.deletion import Delete
from services.kit.jobs.lineage import DELETE
from services.kit.objects import sha256

LABELS = ("Edema", "Pleural Effusion")
PATIENTS = 40
Row = dict[str, Any]


def wide(effect: float = 1.5, *, patients: int = PATIENTS, seed: int = 0) -> pl.DataFrame:
    """Two images a patient, named as hospitals name them."""
    truth_rng, rng = np.random.default_rng(7), np.random.default_rng([8, seed])
    n = 2 * patients
    columns: dict[str, Any] = {
        "id": [f"patient{i // 2:05d}/study1/view{i % 2 + 1}.jpg" for i in range(n)],
        "patient_id": [f"patient{i // 2:05d}" for i in range(n)],
        "group_sex": np.where(np.arange(n) % 4 < 2, "Female", "Male"),
    }
    for label in LABELS:
        truth = (truth_rng.random(n) < 0.4).astype(int)
        columns[f"truth_{label}"] = truth
        columns[f"score_{label}"] = truth * effect + rng.normal(size=n)
    return pl.DataFrame(columns)


def long(frame: pl.DataFrame) -> pl.DataFrame:
    parts = [
        frame.select(
            pl.col("id").alias("sample_id"),
            "patient_id",
            pl.lit(label).alias("label"),
            pl.col(f"truth_{label}").alias("truth"),
            pl.col(f"score_{label}").alias("score"),
            "group_sex",
        )
        for label in LABELS
    ]
    return pl.concat(parts).sample(fraction=1.0, shuffle=True, seed=3)


def csv(frame: pl.DataFrame, **how: Any) -> bytes:
    return frame.write_csv(**how).encode()


def parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getvalue()


def post(http, file: bytes, reference: bytes | None = None, **fields: Any):
    headers = {"Idempotency-Key": fields.pop("key")} if "key" in fields else {}
    files = {"file": ("ours", file)} | (
        {} if reference is None else {"reference": ("r", reference)}
    )
    data = {"name": "our DenseNet"} | fields
    return http.post("/evaluations", data=data, files=files, headers=headers)


@pytest.fixture
def judged(adapters, work):
    """Run the worker, and answer an evaluation's result."""

    def run(http, answer) -> Row:
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/evaluations/{answer.json()['id']}"
        work("evaluation", "evaluation", {JUDGE: Judge(adapters.db, adapters.store)})
        view = http.get(answer.headers["Location"]).json()
        assert view["job"]["state"] == "succeeded", view
        return view["result"]

    return run


def line_of(result: Row, label: str, group: str | None = None) -> Row:
    (found,) = [r for r in result["rows"] if (r["label"], r["group"]) == (label, group)]
    return found


def by_pairs(frame: pl.DataFrame, label: str) -> float:
    """The share of pairs of a positive and a negative that are ranked right."""
    truth, score = frame[f"truth_{label}"].to_numpy(), frame[f"score_{label}"].to_numpy()
    return float((score[truth == 1][:, None] > score[truth == 0]).mean())


def test_every_form_of_a_file_gives_the_same_numbers(http, judged) -> None:
    frame = wide()
    result = judged(http, post(http, csv(frame)))
    for label in LABELS:
        assert line_of(result, label)["auroc"] == pytest.approx(by_pairs(frame, label), abs=1e-12)
        assert line_of(result, label)["positives"] == int(frame[f"truth_{label}"].sum())
    mean = np.mean([by_pairs(frame, label) for label in LABELS])
    macro = line_of(result, "macro")
    assert macro["auroc"] == pytest.approx(mean, abs=1e-12)
    assert macro["low"] < macro["auroc"] < macro["high"]
    assert (result["images"], result["patients"]) == (80, 40)
    women = line_of(result, "Edema", "sex: Female")
    assert women["auroc"] == pytest.approx(
        by_pairs(frame.filter(pl.col("group_sex") == "Female"), "Edema"), abs=1e-12
    )
    assert (women["images"], women["patients"]) == (40, 20)
    renamed = frame.rename({"score_Pleural Effusion": "score_pleural_effusion"})
    blanks = csv(renamed, separator=";").replace(b"\n", b"\r\n\r\n", 3)
    for other in (csv(long(frame)), parquet(frame), parquet(long(frame)), b"\xef\xbb\xbf" + blanks):
        assert judged(http, post(http, other)) == result


def test_two_classifiers_are_compared_by_patient(http, judged) -> None:
    ours, theirs = wide(2.0), wide(0.5, seed=1)
    shuffled = theirs.sample(fraction=1.0, shuffle=True, seed=1)
    result = judged(http, post(http, csv(ours), parquet(long(shuffled))))
    macro = line_of(result, "macro")
    assert macro["difference"] == pytest.approx(macro["auroc"] - macro["reference_auroc"])
    assert macro["difference_low"] > 0
    assert macro["p"] < 0.05
    swapped = line_of(judged(http, post(http, csv(theirs), csv(ours))), "macro")
    assert swapped["difference"] == pytest.approx(-macro["difference"], abs=1e-12)
    assert swapped["p"] == pytest.approx(macro["p"], abs=1e-12)
    assert line_of(judged(http, post(http, csv(ours))), "macro")["difference"] is None


def test_ids_are_pseudonyms_wherever_they_are_kept(http, judged, adapters, ada) -> None:
    answer = post(http, csv(wide()))
    judged(http, answer)
    folder = f"projects/{ada.caller.project}/evaluations/{answer.json()['id']}/"
    keys = list(adapters.store.keys(folder))
    assert sorted(key.removeprefix(folder).split("-")[0] for key in keys) == ["file", "groups"]
    for key in keys:
        frame = pl.read_parquet(adapters.store.get(key))
        told = frame.select(pl.col(pl.String).str.contains("patient0|view").any()).row(0)
        assert not any(told), key
    assert "patient0" not in http.get("/evaluations").text
    with adapters.db.transaction() as tx:
        assert NAMED["evaluations"](tx, UUID(answer.json()["id"]), keys) == set(keys)


def spoil(frame: pl.DataFrame, column: str, value: Any, row: int = 4) -> bytes:
    """A CSV in which one cell is something else."""
    texts = frame.cast(pl.String)
    cells = texts[column].to_list()
    cells[row] = value
    return csv(texts.with_columns(pl.Series(column, cells)))


FRAME = wide()
NAN, TWICE = spoil(FRAME, "score_Edema", "nan"), spoil(FRAME, "id", FRAME["id"][0])
BROKEN = {
    "not UTF-8": (csv(FRAME).replace(b"Male", b"M\xe4le", 1), "file", None, 4),
    "UTF-16": (csv(FRAME).decode().encode("utf-16"), "file", None, 1),
    "ragged": (csv(FRAME).replace(b",Male", b",Male,1", 1), "file", None, 4),
    "damaged Parquet": (parquet(FRAME)[:-9], "file", None, None),
    "nothing": (b"", "file", None, None),
    "only a header": (csv(FRAME.head(0)), "file", None, None),
    "NaN": (NAN, "file", "score_Edema", 6),
    "infinite": (spoil(FRAME, "score_Edema", "-inf"), "file", "score_Edema", 6),
    "no score": (spoil(FRAME, "score_Edema", ""), "file", "score_Edema", 6),
    "no number": (spoil(FRAME, "score_Edema", "high"), "file", "score_Edema", 6),
    "no truth": (spoil(FRAME, "truth_Edema", "2"), "file", "truth_Edema", 6),
    "no id": (spoil(FRAME, "id", " "), "file", "id", 6),
    "no patient": (spoil(FRAME, "patient_id", ""), "file", "patient_id", 6),
    "nan as a patient": (spoil(FRAME, "patient_id", "NaN"), "file", "patient_id", 6),
    "NA as a patient": (spoil(FRAME, "patient_id", "<NA>"), "file", "patient_id", 6),
    "an image twice": (spoil(FRAME, "id", FRAME["id"][5]), "file", "id", 7),
    "two patients": (TWICE, "file", "patient_id", 6),
    "constant": (csv(FRAME.with_columns(score_Edema=0.5)), "file", "score_Edema", None),
    "one class": (csv(FRAME.with_columns(truth_Edema=0)), "file", "truth_Edema", None),
    "one patient": (csv(FRAME.with_columns(patient_id=pl.lit("x"))), "file", None, None),
    "unknown label": (csv(FRAME.rename({"score_Edema": "score_Flu"})), "file", "score_Flu", None),
    "label without truth": (csv(FRAME.drop("truth_Edema")), "file", "score_Edema", None),
    "no patients": (csv(FRAME.drop("patient_id")), "file", None, None),
    "strange column": (csv(FRAME.rename({"group_sex": "sex"})), "file", "sex", None),
    "ids as groups": (
        csv(FRAME.with_columns(group_sex=pl.col("patient_id"))),
        "file",
        "group_sex",
        None,
    ),
    "many groups": (
        csv(FRAME.with_columns(pl.lit("x").alias(f"group_{n}") for n in range(20))),
        "file",
        "group_19",
        None,
    ),
    "a long name": (csv(FRAME.rename({"group_sex": "group_" + "x" * 100})), "file", None, None),
    "half a truth": (spoil(FRAME, "truth_Edema", "0.5"), "file", "truth_Edema", 6),
    "a colon": (csv(FRAME.rename({"group_sex": "group_a:b"})), "file", "group_a:b", None),
    "a group without name": (csv(FRAME.rename({"group_sex": "group_"})), "file", "group_", None),
    "NUL in a group": (
        parquet(FRAME.with_columns(group_sex=pl.lit("a\0b"))),
        "file",
        "group_sex",
        None,
    ),
    "NUL in a group's name": (
        parquet(FRAME.rename({"group_sex": "group_a\0"})),
        "file",
        "group_a?",
        None,
    ),
    "a cell lacks": (csv(long(FRAME)[1:]), "file", "label", None),
    "a cell twice": (csv(pl.concat([long(FRAME), long(FRAME)[:1]])), "file", "sample_id", 162),
    "a label that is none": (csv(long(FRAME)).replace(b"Edema", b"Flu", 1), "file", "label", None),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_with_a_file_is_named(http, adapters, ada, what: str) -> None:
    content, field, column, line = BROKEN[what]
    answer = post(http, content)
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (422, field), problem
    assert problem["type"].endswith("predictions-unusable")
    assert problem.get("column") == column, problem
    if line is not None:
        assert problem["line"] == line
    assert "patient0" not in answer.text
    assert list(adapters.store.keys(f"projects/{ada.caller.project}/evaluations/")) == []
    assert http.get("/evaluations").json()["items"] == []


def listed(answer) -> set[tuple[str, str | None, int | None]]:
    """Where the faults of an answer are: file, column, line."""
    assert answer.status_code == 422, answer.text
    faults = answer.json()["faults"]
    return {(each["field"], each.get("column"), each.get("line")) for each in faults}


def test_all_faults_of_both_files_are_named_at_once(http) -> None:
    ours = (
        FRAME.with_columns(score_Edema=pl.lit(0.5))
        .with_columns(pl.col("truth_Edema").cast(pl.String), extra=pl.lit(1))
        .with_row_index()
        .with_columns(
            truth_Edema=pl.when(pl.col("index") == 4)
            .then(pl.lit("perhaps"))
            .otherwise("truth_Edema"),
            patient_id=pl.when(pl.col("index") == 2).then(pl.lit("")).otherwise("patient_id"),
        )
        .drop("index")
        .rename({"group_sex": "group_a:b"})
    )
    theirs = wide(seed=1).drop("id").rename({"score_Edema": "score_Flu"})
    answer = post(http, csv(ours), csv(theirs))
    assert listed(answer) >= {
        ("file", "extra", None),
        ("file", "truth_Edema", 6),
        ("file", "patient_id", 4),
        ("file", "group_a:b", None),
        ("reference", None, None),
        ("reference", "score_Flu", None),
    }
    problem = answer.json()
    first = problem["faults"][0]
    assert (problem["field"], problem["column"]) == (first["field"], first["column"])
    assert problem["detail"].endswith(f"({len(problem['faults'])} faults in all)")
    assert len(listed(answer)) == len(problem["faults"])  # none is said twice
    assert "patient0" not in answer.text


def test_all_faults_of_a_long_file_are_named_at_once(http) -> None:
    frame = long(FRAME).with_row_index()
    frame = frame.with_columns(
        label=pl.when(pl.col("index") == 3).then(pl.lit("Flu")).otherwise("label"),
        score=pl.when(pl.col("index") == 5).then(None).otherwise("score"),
        truth=pl.when(pl.col("index") == 7).then(pl.lit(3)).otherwise("truth"),
    ).drop("index")
    lines = {("file", "label", 5), ("file", "score", 7), ("file", "truth", 9)}
    assert listed(post(http, csv(frame))) == lines


def test_every_label_of_one_class_and_every_constant_score_is_named(http) -> None:
    truths = [name for name in FRAME.columns if name.startswith("truth_")]
    scores = [name for name in FRAME.columns if name.startswith("score_")]
    assert len(truths) > 1
    one_class = FRAME.with_columns(pl.lit(1).alias(name) for name in truths)
    assert listed(post(http, csv(one_class))) == {("file", name, None) for name in truths}
    constant = FRAME.with_columns(pl.lit(0.5).alias(name) for name in scores)
    assert listed(post(http, csv(constant))) == {("file", name, None) for name in scores}


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (wide(seed=1).head(70), None),
        (wide(seed=1).with_columns(pl.col("id").replace(FRAME["id"][6], "x")), 8),
        (wide(seed=1).drop("truth_Edema", "score_Edema"), None),
        (wide(seed=1).with_columns(pl.col("patient_id").replace("patient00003", "x")), 8),
        (wide(seed=1).with_columns(truth_Edema=1 - pl.col("truth_Edema")), 2),
    ],
    ids=["images lack", "another image", "a label lacks", "another patient", "another truth"],
)
def test_only_predictions_of_the_same_images_are_paired(http, other: pl.DataFrame, line) -> None:
    answer = post(http, csv(FRAME), csv(other))
    assert (answer.status_code, answer.json()["field"]) == (422, "reference"), answer.text
    assert answer.json().get("line") == line


# ---------------------------------------------------------------- of data that is here


@pytest.fixture
def of_phantoms(desk, hospital, adapters, ada):
    """Scores of a dataset's images that find its truth, as a file, and the dataset."""
    made = hospital()
    table = pl.from_arrow(desk_rows(adapters, ada, made))
    rng = np.random.default_rng(3)
    truth = table["Edema"].fill_null(0).to_numpy()
    scores = {"sample_id": table["sample_id"], "score_Edema": truth + rng.normal(size=len(truth))}
    return made, pl.DataFrame(scores), table


def desk_rows(adapters, ada, dataset: UUID):
    return compose_datasets(adapters).provider.dataset_manifest(ada.caller, dataset)


def test_data_that_is_here_says_patients_truth_and_groups(desk, judged, of_phantoms) -> None:
    made, frame, table = of_phantoms
    result = judged(desk, post(desk, csv(frame), data=f"dataset/{made}", leakage="all of them"))
    known = table.filter(pl.col("Edema").is_in([0, 1]))
    line = line_of(result, "Edema")
    assert (line["images"], line["positives"]) == (known.height, (known["Edema"] == 1).sum())
    assert result["patients"] == table["patient_id"].n_unique()
    assert result["data"]["images"] == table.height
    assert line_of(result, "macro", "sex: Male")["images"] == (table["sex"] == "Male").sum()
    assert {row["group"].split(":")[0] for row in result["rows"] if row["group"]} >= {"sex", "age"}
    assert all("leakage_waived" in row["flags"] for row in result["rows"])


def test_predictions_must_be_of_all_of_the_data_and_of_nothing_else(desk, of_phantoms) -> None:
    made, frame, table = of_phantoms

    def refused(frame: pl.DataFrame, **fields: Any) -> tuple[int, str, int | None]:
        problem = post(desk, csv(frame), **({"data": f"dataset/{made}"} | fields)).json()
        return problem["status"], problem["field"], problem.get("line")

    assert refused(frame[1:]) == (422, "file", None)
    assert refused(frame, split="test")[0] == 422
    strange = frame.with_columns(pl.col("sample_id").replace(frame["sample_id"][3], "x"))
    assert refused(strange) == (422, "file", 5)
    told = frame.with_columns(patient_id=table["patient_id"])
    assert refused(told) == (422, "file", None)
    assert refused(frame, data=f"dataset/{uuid4()}") == (404, "data", None)
    assert refused(frame, data="dataset/x") == (422, "data", None)


# ---------------------------------------------------------------- as a resource


@pytest.mark.filterwarnings("ignore:You should not use the 'timeout' argument")  # as there
def test_the_typed_client_sends_what_the_route_takes(http, judged, ada, tmp_path) -> None:
    for name, frame in (("ours", wide()), ("theirs", wide(seed=1))):
        (tmp_path / name).write_bytes(parquet(frame))
    client = Client("http://testserver")
    client._http = http
    post = EvaluationPost(name="ours", classifier=uuid4(), leakage="known patients")
    made, again = (
        client.post_evaluation(
            post, tmp_path / "ours", reference=tmp_path / "theirs", idempotency_key="once"
        )
        for _ in range(2)
    )
    assert made == again
    assert made.request.model_dump(exclude={"sha256", "reference_sha256"}) == post.model_dump()
    assert made.request.reference_sha256 == sha256((tmp_path / "theirs").read_bytes())
    assert [each.id for each in client.list_evaluations()] == [made.id]


def test_the_same_key_gets_the_first_answer(http, adapters, ada) -> None:
    first = post(http, csv(FRAME), key="once")
    again = post(http, csv(FRAME), key="once")
    assert again.json()["id"] == first.json()["id"]
    other = post(http, csv(wide(seed=5)), key="once")
    assert other.json()["type"].endswith("idempotency-key-reused")
    folder = f"projects/{ada.caller.project}/evaluations/"
    assert len(list(adapters.store.keys(folder))) == 2


def test_damaged_predictions_fail_the_job(http, adapters, ada, work) -> None:
    answer = post(http, csv(FRAME))
    folder = f"projects/{ada.caller.project}/evaluations/"
    key = next(key for key in adapters.store.keys(folder) if "/file-" in key)
    adapters.store.put(key, b"something else")
    work("evaluation", "evaluation", {JUDGE: Judge(adapters.db, adapters.store)})
    job = http.get(answer.headers["Location"]).json()["job"]
    assert (job["state"], job["problem"]["field"]) == ("failed", "file")


def test_an_evaluation_is_cancelled(http, judged) -> None:
    place = post(http, csv(FRAME)).headers["Location"]
    for _ in range(2):
        assert http.post(f"{place}/cancel").json()["job"]["state"] == "cancelled"
    done = post(http, csv(FRAME))
    judged(http, done)
    late = http.post(f"{done.headers['Location']}/cancel")
    assert (late.status_code, late.json()["type"].endswith("job-finished")) == (409, True)
    assert http.get(place).json()["result"] is None


def test_an_evaluation_is_deleted_with_its_predictions(http, judged, adapters, ada, work) -> None:
    answer = post(http, csv(FRAME))
    judged(http, answer)
    place = answer.headers["Location"]
    assert http.get(f"{place}/deletion").json()["job"] is None
    assert http.delete(place).status_code == 202
    assert http.get(place).status_code == 404
    work("evaluation", "evaluation", {DELETE: Delete(adapters.erasure, KEPT)})
    assert list(adapters.store.keys(f"projects/{ada.caller.project}/evaluations/")) == []


def test_evaluations_belong_to_their_project(http, part, browse, stranger) -> None:
    place = post(http, csv(FRAME)).headers["Location"]
    elsewhere = browse(part.router, member=stranger)
    assert elsewhere.get(place).status_code == 404
    assert elsewhere.get(f"{place}/events").status_code == 404
    assert elsewhere.post(f"{place}/cancel").status_code == 404
    assert elsewhere.delete(place).status_code == 404
    assert elsewhere.get("/evaluations").json()["items"] == []


def test_scores_of_the_wrong_way_round_and_a_patient_of_many_images_are_flagged(
    http, judged
) -> None:
    rng = np.random.default_rng(8)
    patients = [f"p{n}" for n in range(120)]

    def flags(effect: float, more: int) -> list[str]:
        owners = [*patients, *["p0"] * more]
        truth = np.array([int(owner[1:]) % 2 for owner in owners])
        frame = pl.DataFrame(
            {
                "sample_id": [f"s{n}" for n in range(len(owners))],
                "patient_id": owners,
                "truth_Edema": truth,
                "score_Edema": effect * truth + rng.normal(size=len(owners)),
            }
        )
        return line_of(judged(http, post(http, csv(frame))), "Edema")["flags"]

    assert not {"below_chance", "dominant_patient"} & set(flags(1.0, 0))
    assert {"below_chance", "dominant_patient"} <= set(flags(-1.0, 30))
