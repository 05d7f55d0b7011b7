"""The papers behind the theory, as BibTeX."""

from __future__ import annotations

from typing import NamedTuple

from sgdsim import _checks


class Paper(NamedTuple):
    """Bibliographic data of one paper, as far as they are known.

    Attributes:
        key: of the BibTeX entry.
        kind: of the BibTeX entry, "inproceedings" or "misc".
        fields: title, author, year, ...; what is not known is left out.
        marks: texts by which a reference names it: a title, a page of these documents.
    """

    key: str
    kind: str
    fields: dict[str, str]
    marks: tuple[str, ...]


PAPERS = (
    Paper(
        "ziyin2022strength",
        "inproceedings",
        {
            "title": "Strength of Minibatch Noise in {SGD}",
            "author": "Ziyin, Liu and Liu, Kangqiao and Mori, Takashi and Ueda, Masahito",
            "booktitle": "International Conference on Learning Representations",
            "year": "2022",
        },
        ("strength of minibatch noise in sgd", "stationary.md"),
    ),
    Paper(
        "qian2020impact",
        "misc",
        {
            "title": "The Impact of the Mini-batch Size on the Variance of Gradients in Stochastic Gradient Descent",
            "author": "Qian, Xin and Klabjan, Diego",
            "year": "2020",
            "eprint": "2004.13146",
            "archiveprefix": "arXiv",
        },
        ("the impact of the mini-batch size on the variance of gradients", "variance-polynomial.md"),
    ),
    Paper(
        "cattaneo-shigida-minibatch",
        "misc",
        {
            "title": "The Effect of Mini-Batch Noise on the Implicit Bias of {Adam}",
            "author": "Cattaneo, Matias D. and Shigida, Boris",
            "note": "our copy is without a year",
        },
        ("the effect of mini-batch noise on the implicit bias of adam", "adam-bias.md"),
    ),
    Paper(
        "damian2021label",
        "inproceedings",
        {
            "title": "Label Noise {SGD} Provably Prefers Flat Global Minimizers",
            "author": "Damian, Alex and Ma, Tengyu and Lee, Jason D.",
            "booktitle": "Advances in Neural Information Processing Systems",
            "volume": "34",
            "year": "2021",
        },
        ("label noise sgd provably prefers flat global minimizers", "linear-networks.md"),
    ),
    Paper(
        "li2025adam",
        "misc",
        {
            "title": "{Adam} Reduces a Unique Form of Sharpness: Theoretical Insights Near the Minimizer Manifold",
            "author": "Li, Xinghan and Wen, Haodong and Lyu, Kaifeng",
            "year": "2025",
            "eprint": "2511.02773",
            "archiveprefix": "arXiv",
        },
        ("adam reduces a unique form of sharpness", "slow dynamics of adam", "adam-covariance.md", "slow-dynamics.md"),
    ),
)


def papers_of(reference: str) -> list[Paper]:
    """The papers that a reference names by title, or by the page of these documents that is about them."""
    said = " ".join(reference.lower().split())
    return [paper for paper in PAPERS if any(mark in said for mark in paper.marks)]


def cite(reference: str) -> str:
    """BibTeX of the papers that a `reference` names: that of a prediction, a comparison or an experiment.

    Args:
        reference: text that has the title of a paper or the page of the theory in it.

    Raises:
        ValueError: it names no paper that is known here.

    Examples:
        >>> import sgdsim as ss
        >>> print(ss.cite("Strength of Minibatch Noise in SGD, figure 4a"))
        @inproceedings{ziyin2022strength,
          title = {Strength of Minibatch Noise in {SGD}},
          author = {Ziyin, Liu and Liu, Kangqiao and Mori, Takashi and Ueda, Masahito},
          booktitle = {International Conference on Learning Representations},
          year = {2022},
        }
    """
    papers = papers_of(reference)
    if not papers:
        known = ", ".join(paper.key for paper in PAPERS)
        raise _checks.error("reference", reference, f"one that names a paper ({known})", "pass prediction.reference")
    return "\n\n".join(map(bibtex, papers))


def bibtex(paper: Paper) -> str:
    """One BibTeX entry."""
    fields = "\n".join(f"  {name} = {{{value}}}," for name, value in paper.fields.items())
    return f"@{paper.kind}{{{paper.key},\n{fields}\n}}"
