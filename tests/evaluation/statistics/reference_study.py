"""A whole study by the plain reckoning of `reference`: every line that its answers should hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tests.evaluation.statistics.reference import (
    MACRO,
    METRICS,
    NO_FINDING,
    PROBABILISTIC,
    Found,
    Row,
    Said,
    Scored,
    against_margin,
    auroc,
    difference_of,
    holm,
    macro_of,
    mean,
    minus,
    not_recognised,
    over_seeds,
    said_of,
)
from tests.evaluation.statistics.reference_groups import Groups, groups_of

Key = tuple[str, str, str | None]
"""A metric, a label and a group."""
COEFFICIENTS = ("calibration_intercept", "calibration_slope")
SCALES = {"auroc": "auroc", "average_precision": "logit", "brier": "logit"} | dict.fromkeys(
    COEFFICIENTS, "coefficient"
)
NUMBERS = ("value", "low", "high")


@dataclass
class Line:
    """One line of an answer before its family of tests is known."""

    key: Key
    arm: str
    row: Row
    family: Any
    said: Said | None


@dataclass
class Study:
    """`sets` holds the rows that were sent by test set, arm and seed; `people` what the data says
    of each sample. `phantom`: drawn ones. The plan's arm `lost` has no predictions of some seed.
    """

    plan: Row
    sets: Mapping[tuple[str, str, int], list[Row]]
    people: Mapping[str, Row] = field(default_factory=dict)
    phantom: bool = False
    lost: str | None = None

    @property
    def tests(self) -> list[str]:
        return [t["name"] for t in self.plan["tests"]]

    @property
    def arms(self) -> list[str]:
        return [a["name"] for a in self.plan["arms"] if a["name"] != self.lost]

    @cached_property
    def references(self) -> dict[str, str | None]:
        """With which arm each is compared: its own, else the plan's; with itself is with none."""
        own = {a["name"]: a.get("reference") or self.plan["reference"] for a in self.plan["arms"]}
        return {arm: None if reference == arm else reference for arm, reference in own.items()}

    @cached_property
    def groups(self) -> dict[str, Groups]:
        return groups_of(self.people, {t: self.whose(t) for t in self.tests})

    def whose(self, test: str) -> dict[str, str]:
        rows = self.sets[test, self.arms[0], self.plan["seeds"][0]]
        return {r["sample_id"]: r["patient_id"] for r in rows}

    # ------------------------------------------------------------ what is measured

    def samples(self, test: str) -> set[str]:
        return set(self.whose(test))

    def labels(self, test: str) -> list[str]:
        rows = self.sets[test, self.arms[0], self.plan["seeds"][0]]
        return sorted({r["label"] for r in rows})

    def rows_of(self, test: str, arm: str, seed: int, label: str) -> list[Row]:
        rows = self.sets[test, arm, seed]
        return [r for r in rows if r["label"] == label and r["truth"] is not None]

    def scored(
        self, test: str, arm: str, seed: int, label: str, members: set[str] | None = None
    ) -> Scored:
        rows = self.rows_of(test, arm, seed, label)
        rows = [r for r in rows if members is None or r["sample_id"] in members]
        return Scored(
            np.array([r["truth"] for r in rows]),
            np.array([r["score"] for r in rows]),
            [r["patient_id"] for r in rows],
        )

    def estimable(self, test: str) -> list[str]:
        first = (test, self.arms[0], self.plan["seeds"][0])
        return [lb for lb in self.labels(test) if len(set(self.scored(*first, lb).y)) > 1]

    @cached_property
    def left_out(self) -> dict[str, str]:
        """The labels that no mean is over: not asked for, or of too few patients on a test set."""
        fewest, wanted = self.plan.get("fewest_patients", 2), self.plan.get("averaged")
        arm, seed = self.arms[0], self.plan["seeds"][0]
        labels = sorted({label for test in self.tests for label in self.labels(test)})
        asked = [label for label in labels if wanted is None or label in wanted]
        short: dict[str, dict[str, list[str]]] = {}
        for test in self.tests:
            short[test] = {}
            for label in asked:
                rows = self.rows_of(test, arm, seed, label)
                for y, words in ((1, "with it"), (0, "without it")):
                    count = len({r["patient_id"] for r in rows if r["truth"] == y})
                    if count < fewest:
                        told = f"{count} patient{'s' * (count != 1)} {words} on {test}"
                        short[test].setdefault(label, []).append(told)
        # a test set that has enough for no label takes none from the others
        counting = [t for t in self.tests if len(short[t]) < len(asked)] or self.tests
        reasons = {label: "not asked for" for label in labels if label not in asked}
        for label in asked:
            told = [words for test in counting for words in short[test].get(label, [])]
            if told:
                reasons[label] = "; ".join(told)
        return reasons

    @cached_property
    def averaged(self) -> list[str]:
        """The labels of every mean: with enough patients of each class on every test set."""
        labels = {label for test in self.tests for label in self.labels(test)}
        return sorted(labels - self.left_out.keys())

    def probabilities(self, test: str, arm: str) -> bool:
        sets = [self.sets[test, arm, seed] for seed in self.plan["seeds"]]
        return all(0 <= r["score"] <= 1 for rows in sets for r in rows)

    def measured(self, test: str, arm: str) -> dict[Key, Found | None]:
        """All of an arm on a test set."""
        found: dict[Key, Found | None] = {}
        known, groups, averaged = self.estimable(test), self.groups[test], self.averaged
        sane = self.probabilities(test, arm)
        for label in self.labels(test):
            of = [self.scored(test, arm, seed, label) for seed in self.plan["seeds"]]
            found["auroc", label, None] = over_seeds([auroc(x) for x in of])
            for name, metric in METRICS.items():
                wanted = sane or name not in PROBABILISTIC
                usable = wanted and label in known
                found[name, label, None] = over_seeds([metric(x) for x in of]) if usable else None
            kind = "underdiagnosis" if label == NO_FINDING else "missed"
            ids = [r["sample_id"] for r in self.rows_of(test, arm, self.plan["seeds"][0], label)]
            for group, (_, members) in {None: (None, self.samples(test)), **groups}.items():
                inside = np.array([i in members for i in ids], bool)
                found[kind, label, group] = (
                    over_seeds([not_recognised(label, x, inside) for x in of])
                    if label in known
                    else None
                )
        for group, (_, members) in groups.items():
            for label in self.labels(test):
                of = [self.scored(test, arm, s, label, members) for s in self.plan["seeds"]]
                found["auroc", label, group] = over_seeds([auroc(x) for x in of])
            found["auroc", MACRO, group] = macro_of([found["auroc", lb, group] for lb in averaged])
            for label in self.labels(test):
                A = found["auroc", label, group]
                if A is None or A.fewest < 5:
                    del found["auroc", label, group]
        found["auroc", MACRO, None] = macro_of([found["auroc", lb, None] for lb in averaged])
        ill = [label for label in averaged if label != NO_FINDING]
        for name in METRICS:
            found[name, MACRO, None] = mean([found[name, lb, None] for lb in averaged])
        for group in (None, *groups):
            found["missed", MACRO, group] = mean([found["missed", lb, group] for lb in ill])
        return found | self.gaps(test, found)

    def gaps(self, test: str, found: Mapping[Key, Found | None]) -> dict[Key, Found | None]:
        groups, gaps = self.groups[test], {}
        for group, (against, _) in groups.items():
            for name, label in (
                ("auroc", MACRO),
                ("underdiagnosis", NO_FINDING),
                ("missed", MACRO),
            ):
                if against in groups and (name, label, group) in found:
                    gap = minus(found[name, label, group], found[name, label, against])
                    gaps[f"{name}_gap", label, group] = gap
        return gaps

    # ------------------------------------------------------------ lines

    def flags(
        self,
        of: Found | None,
        said: Said | None,
        *,
        kind: str | None,
        label: str,
        test: str,
        exact: bool = False,
        sane: bool = True,
        group: str | None = None,
        below: bool = False,
        arms: tuple[str | None, ...] = (),
    ) -> set[str]:
        waived = self.plan.get("waived", [])
        if kind and any(word.startswith("extended") for word in waived):
            kind = "exploratory"
        nu = said.nu if said else None
        few = of is not None and not exact
        if nu is not None:
            few = of is not None and (nu < 10 or said.carriers < 10)
        holds = {
            "not_estimable": of is None,
            "exact": exact,
            "few_degrees_of_freedom": few,
            "no_variation": few and nu is None and of is not None and of.fewest != 1,
            "few_patients": of is not None and of.fewest < 5,
            "fewer_labels": label == MACRO
            and not set(self.plan.get("averaged") or self.labels(test)) <= set(self.averaged),
            "few_seeds": len(self.plan["seeds"]) < 5,
            "leakage_waived": any(word.startswith("leakage") for word in waived),
            "phantom": self.phantom,
            "not_probabilities": not sane,
            "dominant_patient": self.dominated(test, label, group),
            "below_chance": below,
            "runs_missing": self.lost is not None and self.lost in arms,
        }
        return {flag for flag, true in holds.items() if true} | ({kind} if kind else set())

    def dominated(self, test: str, label: str, group: str | None) -> bool:
        rows = self.sets[test, self.arms[0], self.plan["seeds"][0]]
        members = self.samples(test) if group is None else self.groups[test][group][1]
        rows = [r for r in rows if r["truth"] is not None and r["sample_id"] in members]
        if label == MACRO:
            parts = [list({r["sample_id"]: r["patient_id"] for r in rows}.values())]
        else:
            mine = [r for r in rows if r["label"] == label]
            parts = [[r["patient_id"] for r in mine if r["truth"] == y] for y in (0, 1)]
        for part in filter(None, parts):
            counted = [part.count(each) for each in set(part)]
            if max(counted) >= max(0.05 * len(part), 5 * len(part) / len(counted)):
                return True
        return False

    def counts(self, test: str, label: str, group: str | None) -> Row:
        rows = self.sets[test, self.arms[0], self.plan["seeds"][0]]
        members = self.samples(test) if group is None else self.groups[test][group][1]
        rows = [r for r in rows if r["truth"] is not None and r["sample_id"] in members]
        rows = [r for r in rows if label in {MACRO, r["label"]}]
        return {
            "images": len({r["sample_id"] for r in rows}),
            "positives": None if label == MACRO else sum(r["truth"] for r in rows),
            "patients": len({r["patient_id"] for r in rows}),
            "seeds": len(self.plan["seeds"]),
        }

    def line(self, test: str, arm: str, key: Key, A: Found | None, R: Found | None) -> Line:
        metric, label, group = key
        scale = "gap" if metric.endswith("_gap") else SCALES.get(metric, "share")
        level = A and said_of(A, scale=scale)
        reference = self.references[arm]
        D = None if reference is None else minus(A, R)
        d = D and difference_of(D, scale="coefficient" if metric in COEFFICIENTS else "gap")
        said = d or level
        sane = metric not in PROBABILISTIC or self.probabilities(test, arm)
        whole_macro = (metric, label, group) == ("auroc", MACRO, None)
        kind = "primary" if whole_macro and arm == self.plan["primary"] else "exploratory"
        if whole_macro and reference is None:
            kind = None
        exact = any(
            (level and level.exact, D and D.exact, scale == "gap" and A is not None and A.exact)
        )
        row = {
            "arm": arm,
            "test": test,
            "label": label,
            "group": group,
            **self.counts(test, label, group),
            **dict(
                zip(
                    NUMBERS,
                    (level.value, level.low, level.high) if level else (None,) * 3,
                    strict=True,
                )
            ),
            "reference": reference,
            "difference": d and d.value,
            "difference_low": d and d.low,
            "difference_high": d and d.high,
            "p": d and d.p,
            "p_holm": None,
            "dof": said and said.nu,
            "flags": self.flags(
                A,
                said,
                kind=kind,
                label=label,
                test=test,
                exact=exact,
                sane=sane,
                group=group,
                below=metric == "auroc" and bool(level and level.high and level.high < 0.5),
                arms=(arm, reference),
            ),
        }
        if metric == "auroc":
            row["auroc"] = row.pop("value")
            row |= {"test_sd": said and said.test_sd, "seed_sd": said and said.seed_sd}
        else:
            against = self.groups[test][group][0] if metric.endswith("_gap") else None
            row |= {"metric": metric, "against": against}
        # the means of all arms with one reference; else the labels or the groups of one arm
        family = (arm, metric, group is None, label == MACRO)
        if label == MACRO and group is None:
            family = ("arms", reference, metric)
        if whole_macro and arm == self.plan["primary"]:
            family = None  # over the test sets
        return Line(key, arm, row, family if d else None, said)

    @cached_property
    def found(self) -> dict[tuple[str, str], dict[Key, Found | None]]:
        return {(test, arm): self.measured(test, arm) for test in self.tests for arm in self.arms}

    @cached_property
    def lines(self) -> dict[tuple[str, str, str, str, str | None], Row]:
        """By test set, arm, metric, label and group."""
        by_key: dict[Any, Row] = {}
        primary = {c["test"]: c["p_holm"] for c in self.comparisons}
        for test in self.tests:
            made = [
                self.line(test, arm, key, A, self._theirs(test, arm, key))
                for arm in self.arms
                for key, A in self.found[test, arm].items()
                if not (key[0] == "missed" and key[2] is not None and key[1] != MACRO)
            ]
            for family in {line.family for line in made} - {None}:
                members = [line for line in made if line.family == family]
                adjusted = holm([line.row["p"] for line in members])
                for line, p in zip(members, adjusted, strict=True):
                    line.row["p_holm"] = p
            for line in made:
                if "primary" in line.row["flags"] or (
                    line.arm == self.plan["primary"] and line.key == ("auroc", MACRO, None)
                ):
                    line.row["p_holm"] = primary[test]
                by_key[test, line.arm, *line.key] = line.row
            if self.lost is not None:
                for label in (MACRO, *self.labels(test)):
                    by_key[test, self.lost, "auroc", label, None] = self._nothing(test, label)
        return by_key

    def _theirs(self, test: str, arm: str, key: Key) -> Found | None:
        reference = self.references[arm]
        return None if reference in {None, self.lost} else self.found[test, reference][key]

    def _nothing(self, test: str, label: str) -> Row:
        numbers = ("auroc", "low", "high", "difference", "difference_low", "difference_high")
        return {
            "arm": self.lost,
            "test": test,
            "label": label,
            "group": None,
            **self.counts(test, label, None),
            "seeds": 0,
            "reference": self.references[self.lost],
            **dict.fromkeys((*numbers, "p", "p_holm", "dof", "test_sd", "seed_sd")),
            "flags": {"not_estimable", "runs_missing"},
        }

    def _asked(self, test: str, arm: str, reference: str) -> Found | None:
        if self.lost in {arm, reference}:
            return None
        key = ("auroc", MACRO, None)
        return minus(self.found[test, arm][key], self.found[test, reference][key])

    @cached_property
    def comparisons(self) -> list[Row]:
        plan, margin = self.plan, self.plan["margin"]
        asked = [self._asked(t, plan["primary"], plan["reference"]) for t in self.tests]
        said = [D and difference_of(D) for D in asked]
        rows = []
        for test, D, d, p in zip(
            self.tests, asked, said, holm([d and d.p for d in said]), strict=True
        ):
            verdict = "inconclusive"
            if d is None:
                verdict = "not_estimable"
            elif p is not None and len(plan["seeds"]) > 1:
                inside = against_margin(D, margin, "equivalence")
                if -margin < inside.low and inside.high < margin:
                    verdict = "equivalent"
                elif p < 0.05:
                    verdict = "better" if d.value > 0 else "worse"
            rows.append(
                {
                    "test": test,
                    "primary": plan["primary"],
                    "reference": plan["reference"],
                    **_numbers(d),
                    "p_holm": p,
                    "margin": margin,
                    "verdict": verdict,
                    "seeds": len(plan["seeds"]),
                    "averaged": set(self.averaged),
                    "left_out": self.left_out,
                    "flags": self.flags(
                        D, d, kind="primary", label=MACRO, test=test, exact=bool(D and D.exact)
                    ),
                }
            )
        return rows

    @cached_property
    def answers(self) -> list[Row]:
        asked = [(q, t) for q in self.plan.get("questions", []) for t in self.tests]
        found = [self._asked(t, q["arm"], q["reference"]) for q, t in asked]
        said = [
            None
            if D is None
            else difference_of(D)
            if q["kind"] == "superiority"
            else against_margin(D, q["margin"], q["kind"])
            for (q, _), D in zip(asked, found, strict=True)
        ]
        rows = []
        for (q, test), D, d, p in zip(
            asked, found, said, holm([d and d.p for d in said]), strict=True
        ):
            shown = p is not None and p < 0.05 and len(self.plan["seeds"]) > 1
            shown = shown and (q["kind"] != "superiority" or d.value > 0)
            word = "not_estimable" if d is None else "shown" if shown else "not_shown"
            rows.append(
                {
                    "test": test,
                    "margin": None,
                    **q,
                    **_numbers(d),
                    "level": 0.95 if q["kind"] == "superiority" else 0.9,
                    "p_holm": p,
                    "verdict": word,
                    "seeds": len(self.plan["seeds"]),
                    "flags": self.flags(
                        D,
                        d,
                        kind="registered",
                        label=MACRO,
                        test=test,
                        exact=bool(D and D.exact),
                        arms=(q["arm"], q["reference"]),
                    ),
                }
            )
        return rows


def _numbers(d: Said | None) -> Row:
    return {
        "difference": d and d.value,
        "low": d and d.low,
        "high": d and d.high,
        "p": d and d.p,
        "dof": d and d.nu,
        "test_sd": d and d.test_sd,
        "seed_sd": d and d.seed_sd,
    }
