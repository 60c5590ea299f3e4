"""Results as Markdown: a file for each table, the paper's figures in brackets beside ours, with their pictures."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.benchmark.datasets import SOURCES
from napari_disentangle.benchmark.poses import pose_errors
from napari_disentangle.benchmark.published import PUBLISHED
from napari_disentangle.benchmark.results import FINISHED, read_results, write_results
from napari_disentangle.benchmark.running import PICTURES, usual_size
from napari_disentangle.benchmark.sweep import draw_sweep
from napari_disentangle.benchmark.tables import TABLES, THROUGHPUT
from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import write_text
from napari_disentangle.metrics.evaluation import CodeScores
from napari_disentangle.models import model_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_disentangle.benchmark.results import Result, RowResults
    from napari_disentangle.benchmark.tables import Table
    from napari_disentangle.metrics import Score

_OF_IDENTITY = ("p", "p1", "p_transform", "sap", "sap_spaces", "d_cc", "d_cz", "sap_c", "ari", "nmi")
_OF_STATES = ("d_zz", "d_zc", "sap_z", "ari_z")
OVERVIEW, SWEEP = "README.md", "five-snr.png"
_CHART = f"![P(c|z) of every model over the SNR]({PICTURES}/{SWEEP})"
_IN_OVERVIEW = ("p", "p1", "d_cc", "d_cz", "d_zz", "d_zc", "ari", "ari_z")
ENOUGH = 0.95
"""P(c|z) whose time is told."""


def write_tables(out: Path, docs: Path) -> list[Path]:
    """Write DOCS/TABLE.md for every table that has results, and DOCS/README.md of the papers' models in all of them.

    The newest results and the pictures go beside them. DOCS may be OUT: its pages are then written anew.

    Parameters
    ----------
    out : Path
        Folder of the results.
    docs : Path
        Folder to write; files of the same names are replaced.

    Returns
    -------
    list of Path
        The files, that of all tables last.

    Raises
    ------
    InputError
        There are no results, or they cannot be read.
    """
    results, elsewhere = read_results(out), docs.resolve() != out.resolve()
    found = grouped(results)
    written: list[Path] = []
    for name, rows in found.items():
        written.append(docs / f"{name}.md")
        write_text(written[-1], render(TABLES[name], rows), overwrite=True)
        if elsewhere:
            _copy_pictures(rows, out / PICTURES, docs / PICTURES)
    if not written:
        raise InputError(
            f"{out} has no results of a table; make some, with napari-disentangle benchmark run DATA {out}."
        )
    if _is_swept(found):
        (docs / PICTURES).mkdir(parents=True, exist_ok=True)
        draw_sweep(found, docs / PICTURES / SWEEP)
    if elsewhere:
        write_results(docs, results)
    write_text(docs / OVERVIEW, _overview(found), overwrite=True)
    return [*written, docs / OVERVIEW]


def grouped(results: Iterable[Result]) -> dict[str, list[RowResults]]:
    """Return table -> the results of each row and size of data, in the order of the tables and of their rows.

    Rows that a table no longer has come last, tables that are no longer there not at all. Of a row whose settings have
    changed, only the results with those of its newest, which alone have a mean.
    """
    of_table: dict[str, dict[tuple[str, int], list[Result]]] = {name: defaultdict(list) for name in TABLES}
    known = [result for result in results if result.table in of_table]
    for result in sorted(known, key=lambda result: result.date, reverse=True):
        others = of_table[result.table][result.row, result.size]
        if not others or others[0].settings_but_seed == result.settings_but_seed:
            others.append(result)
    found: dict[str, list[RowResults]] = {}
    for name, rows in of_table.items():
        order = {row.name: k for k, row in enumerate(TABLES[name].rows)}
        keys = sorted(rows, key=lambda key, order=order: (order.get(key[0], len(order)), key))
        if keys:
            found[name] = [(row, sorted(rows[row, size], key=lambda result: result.seed)) for row, size in keys]
    return found


def _overview(found: Mapping[str, Sequence[RowResults]]) -> str:
    """Return the rows of the two papers' models, all tables in one."""
    titles = [str(CodeScores.model_fields[key].title) for key in _IN_OVERVIEW]
    head = ["data", "model", "seeds", "particles", *titles, "I(content)", "I(transformation)", "invariants' P(c|z)"]
    lines = [_line(head), _line(["---"] * len(head))]
    for table, rows in found.items():
        for name, results in rows:
            if name != results[0].model or not model_info(name).first or not any(r.informativeness for r in results):
                continue
            published = PUBLISHED.get(table, {}).get(name, {})
            scores = [r.scores for r in results if r.scores is not None]
            told = {key: [getattr(one.model, key) for one in scores] for key in _IN_OVERVIEW}
            invariants = [one.invariants.p for one in scores[:1] if one.invariants is not None]
            lines.append(
                _line([
                    f"[{table}]({table}.md)", name, " ".join(str(r.seed) for r in results),
                    _span(r.particles for r in results), *(_cell(told[key], published.get(key)) for key in told),
                    *(_cell([r.informativeness.get(code) for r in results]) for code in ("content", "transformation")),
                    _cell(invariants),
                ])
            )  # fmt: skip
    about = (
        "Mean over the seeds and their standard deviation, the paper's figure in square brackets. Particles of one table may differ in number: "
        "each size has a row. What the scores are, and what was found: [the benchmark](../benchmark.md)."
    )
    parts = ["# The two papers' models in all tables", about, "\n".join(lines)]
    if _is_swept(found):
        parts.append(_CHART)
    return "\n\n".join(parts) + "\n"


def _is_swept(found: Mapping[str, Sequence[RowResults]]) -> bool:
    return any(TABLES[name].snr is not None for name in found)


def render(table: Table, rows: Sequence[RowResults]) -> str:
    """Return a table as Markdown."""
    parts = [f"# {table.title}", _about(table)]
    results = [result for _, of_row in rows for result in of_row]
    if table.name == THROUGHPUT:
        parts += [_throughput(rows)]
    else:
        parts += [_scores(table, rows), _reasons(table, rows), pose_errors(rows), _time_to(rows), _confusion(results)]
    parts += [_made_by(table, results)]
    if table.snr is not None:
        parts += [f"## At other SNR\n\n{_CHART}"]
    if table.name != THROUGHPUT:
        parts += [_pictures(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(table: Table) -> str:
    command = f"    napari-disentangle benchmark run DATA OUT --table {table.name}"
    if table.name == THROUGHPUT:
        return f"Training steps on boxes of noise: the median of the repeats, and the slowest and the fastest.\n\n{command}"
    source = SOURCES[table.source]
    beside = (
        " In square brackets the paper's figure; its differences are signed here." if table.name in PUBLISHED else ""
    )
    return (
        f"{source.about}\n\n{command}\n\nMean over the seeds and, with several, their standard deviation.{beside} Every D is signed. "
        "I is the part of the variance that the reconstruction explains which is lost when that code is permuted between particles: a code that "
        'the decoder ignores has 0, and passes every test for a low D. "-": see below the table.'
    )


def _scores(table: Table, rows: Sequence[RowResults]) -> str:
    scored = any(result.scores is not None for _, results in rows for result in results)
    keys = (_OF_IDENTITY + (_OF_STATES if table.states else ())) if scored else ()
    informative = _informative(rows)
    titles = [str(CodeScores.model_fields[key].title) for key in keys] + [f"I({name})" for name in informative]
    head = ["row", "seeds", "particles", "epochs", "minutes", *titles]
    lines = [_line(head), _line(["---"] * len(head))]
    if scored:
        lines += _beside(rows, keys, len(informative))
    for name, results in rows:
        published = PUBLISHED.get(table.name, {}).get(name, {})
        cells = [
            name,
            " ".join(str(r.seed) for r in results),
            _span(r.particles for r in results),
            "-" if model_info(results[0].model).kind == "linear" else _span(r.epochs for r in results),
        ]
        cells.append(f"{np.mean([r.seconds for r in results]) / 60:.1f}")
        cells += [
            _cell([None if r.scores is None else getattr(r.scores.model, key) for r in results], published.get(key))
            for key in keys
        ]
        cells += [_cell([r.informativeness.get(code) for r in results]) for code in informative]
        lines.append(_line(cells))
    return "\n".join(lines)


def _informative(rows: Sequence[RowResults]) -> tuple[str, ...]:
    """Return the codes that are permuted: a pose beside a transformation code only where a model has one."""
    posed = any("pose" in result.informativeness for _, results in rows for result in results)
    return ("content", "transformation", "pose") if posed else ("content", "transformation")


def _beside(rows: Sequence[RowResults], keys: Sequence[str], codes: int) -> list[str]:
    """Return the rows of ignorance and of the invariants, which train nothing, for each size of the data."""
    lines: list[str] = []
    told: set[int] = set()
    for _, results in rows:
        for result in results:
            if result.scores is None or result.particles in told:
                continue
            told.add(result.particles)
            baseline = result.scores.invariants
            # what one code cannot have a chance for, another row's has
            chance = [_signed(_chance(rows, key, result.particles)) for key in keys]
            lines.append(_line(["*chance*", "", str(result.particles), "", "", *chance, *["+0.000"] * codes]))
            if baseline is not None:
                cells = [_cell([getattr(baseline, key)]) for key in keys]
                name = "*invariants, nothing trained*"
                lines.append(_line([name, "", str(result.particles), "", "", *cells, *["-"] * codes]))
    return lines


def _chance(rows: Sequence[RowResults], key: str, particles: int) -> float | None:
    for _, results in rows:
        for result in results:
            if result.scores is not None and result.particles == particles:
                score: Score = getattr(result.scores.model, key)
                if score.chance is not None:
                    return score.chance
    return None


def _cell(scores: Sequence[Score | None], published: float | None = None) -> str:
    values = [score.value for score in scores if score is not None and score.value is not None]
    beside = "" if published is None else f" [{f'{published:+.3f}'.removesuffix('0')}]"
    if not values:
        return f"-{beside}"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    of = f" ({len(values)} of {len(scores)})" if len(values) < len(scores) else ""
    return f"{np.mean(values):+.3f}{spread}{of}{beside}"


def _reasons(table: Table, rows: Sequence[RowResults]) -> str:
    """Return why rows ended early, and what cannot be had of them and why; rows of which the same is said together."""
    keys = _OF_IDENTITY + (_OF_STATES if table.states else ())
    told: dict[str, list[str]] = defaultdict(list)
    for name, results in rows:
        for result in results:
            if result.ended != FINISHED:
                seed = f", seed {result.seed}" if len(results) > 1 else ""
                told[result.ended.rstrip(".")].append(f"{name}{seed}")
        missing: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for result in results:
            for what, reason in _missing(result, keys):
                missing[reason][what].append(result.seed)
        for reason, of in missing.items():
            words = [
                what if len(seeds) == len(results) else f"{what} of seed {', '.join(map(str, seeds))}"
                for what, seeds in of.items()
            ]
            told[f"{', '.join(words)}: {reason}"].append(name)
    return "\n".join(f"- {', '.join(dict.fromkeys(names))}: {what}." for what, names in told.items())


def _missing(result: Result, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what cannot be had of a result, and why."""
    info = model_info(result.model)
    for key in keys if result.scores is not None else ():
        score: Score = getattr(result.scores.model, key)  # pyright: ignore[reportOptionalMemberAccess]
        if score.reason:
            one_code = not info.two_codes and "no dimensions" in score.reason
            yield str(CodeScores.model_fields[key].title), "it has one code" if one_code else score.reason
    for code in ("content", "transformation") if result.trained else ():
        found = result.informativeness.get(code)
        if found is None:
            yield f"I({code})", "it has one code" if info.decodes else "it decodes nothing"
        elif found.reason:
            yield f"I({code})", found.reason


def _time_to(rows: Sequence[RowResults]) -> str:
    """Return how soon P(c|z) was high, where that was followed."""
    lines: list[str] = []
    for name, results in rows:
        for result in results:
            there = next(((e, s) for e, s, p in result.followed if p >= ENOUGH), None)
            if there is not None:
                lines.append(
                    f"- {name}, seed {result.seed}, {result.particles} particles: {there[1]:.0f} s (epoch {there[0]})"
                )
            elif result.followed:
                best = max(p for _, _, p in result.followed)
                lines.append(f"- {name}, seed {result.seed}, {result.particles} particles: never; at best {best:+.3f}")
    if not lines:
        return ""
    return f"Training time until P(c|z) was {ENOUGH:g}, seen whenever codes were written:\n\n" + "\n".join(lines)


def _confusion(results: Sequence[Result]) -> str:
    """Return which neighbouring states are taken for one another, of the first seed of the two papers' own rows."""
    parts: list[str] = []
    seen: set[tuple[str, int, str]] = set()
    own = [result for result in results if result.row == result.model and model_info(result.model).first]
    for result in own:
        for one in result.confusion:
            key = (result.row, result.size, one.code)
            if key in seen:
                continue
            seen.add(key)
            counts = np.array(one.counts)
            head = [f"{result.row}, {one.identity} from its {one.code}", *one.states]
            lines = [_line(head), _line(["---"] * len(head))]
            lines += [_line([state, *map(str, row)]) for state, row in zip(one.states, counts.tolist(), strict=True)]
            exact = np.trace(counts) / counts.sum()
            lines.append(f"\nIn the right state {exact:.3f}; in that or one beside it {one.within_one:.3f}.")
            parts.append("\n".join(lines))
    return "\n\n".join(["Rows: the true state; columns: the one told, held out.", *parts]) if parts else ""


def _throughput(rows: Sequence[RowResults]) -> str:
    head = ["row", "voxels", "batch", "particles/s", "slowest", "fastest", "authors', at 32", "times as fast"]
    lines = [_line(head), _line(["---"] * len(head))]
    for name, results in rows:
        for result in results[-1:]:
            for size, rates in result.particles_per_second.items():
                authors = PUBLISHED[THROUGHPUT][f"{result.model}-32"]["particles_per_second"]
                batch = next((s.partition("=")[2] for s in result.settings if s.startswith("training.batch_size")), "")
                median = float(np.median(rates))
                cells = [
                    f"{median:.1f}",
                    f"{min(rates):.1f}",
                    f"{max(rates):.1f}",
                    f"{authors:g}",
                    f"{median / authors:.1f}",
                ]
                lines.append(_line([name, size, batch, *cells]))
    return "\n".join(lines)


def _made_by(table: Table, results: Sequence[Result]) -> str:
    """Return the commands, machines and commits of all results, and the settings, each once."""
    lines = [
        "## How it was made",
        "",
        *_commands(table, results),
        "",
        "Rows with their seeds, on which machine by which commit:",
        "",
    ]
    made: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        m = result.machine
        dirty = "+, with changes" if (result.commit or "").endswith("+") else ""
        made[
            f"{m.cpu}, {m.cores} cores, {m.threads} threads, PyTorch {m.torch}, {m.device}; version {result.version}, commit "
            f"{(result.commit or 'unknown')[:12]}{dirty}"
        ][result.row].append(str(result.seed))
    for how, rows in made.items():
        which = ", ".join(" ".join([row, *seeds]) for row, seeds in rows.items())
        lines.append(f"- {how}: {which}")
    lines += ["", "Settings over the standard preset, besides the seed:", ""]
    settings: dict[str, list[str]] = defaultdict(list)
    for result in results:
        kept = list(result.settings_but_seed)
        if result.row == result.model:
            kept = [s for s in kept if not s.startswith("model.name")]
        settings[" ".join(kept)].append(result.row)
    lines += [
        f"- {', '.join(dict.fromkeys(names))}: {f'`{kept}`' if kept else 'none'}" for kept, names in settings.items()
    ]
    return "\n".join(lines)


def _commands(table: Table, results: Sequence[Result]) -> list[str]:
    """Return what makes the results again: a command for all rows of the same seeds, size and limit of time."""
    usual, own = usual_size(table), {row.name: row.minutes for row in table.rows}
    seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for result in results:
        limit = result.stopped_after or own.get(result.row)
        options = "" if result.size == usual else f" --size {table.source}={result.size}"
        options += "" if limit == own.get(result.row) else f" --minutes {limit:g}"
        device = result.machine.device
        options += "" if "on CPU" in device else f" --device {'mps' if 'Apple' in device else 'cuda'}"
        seeds[result.row, options].append(result.seed)
    rows: dict[str, list[str]] = defaultdict(list)
    for (row, options), of_row in seeds.items():
        rows[f" --seeds {' '.join(map(str, sorted(of_row)))}{options}"].append(row)
    start = f"    napari-disentangle benchmark run DATA OUT --table {table.name}"
    return [f"{start} --row {' '.join(names)}{how}" for how, names in rows.items()]


def _pictures(rows: Sequence[RowResults]) -> str:
    """Return the pictures of each row's first seed that has some."""
    parts: list[str] = []
    sizes = Counter(name for name, _ in rows)
    for row, results in rows:
        shown = _shown(results)
        name = row if sizes[row] == 1 else f"{row}, {results[0].particles} particles"
        parts += [f"![{name}: {one.rpartition('-')[2].removesuffix('.png')}]({PICTURES}/{one})" for one in shown]
    if not parts:
        return ""
    about = "Transfers: each row has the content of the particle at its left, each column the transformation of the one on top. "
    about += "Traversals: each dimension of the codes from -2 to 2 standard deviations, the others at their mean."
    return "\n\n".join(["## Pictures", about, *parts])


def _shown(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the pictures of a row that its page shows: of its first seed that has some."""
    return next((result.pictures for result in results if result.pictures), ())


def _copy_pictures(rows: Sequence[RowResults], source: Path, target: Path) -> None:
    for _, results in rows:
        for name in _shown(results):
            if (source / name).is_file():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target / name)


def _line(cells: Sequence[str]) -> str:
    escape: Callable[[str], str] = lambda cell: cell.replace("|", r"\|")  # noqa: E731
    return f"| {' | '.join(escape(cell) for cell in cells)} |"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _span(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
