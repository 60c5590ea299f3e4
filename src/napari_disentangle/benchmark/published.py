"""The figures that the two papers print, by table, row and score; differences signed, where papers print absolute ones.

Uddin, Howe, Zeng and Xu, CVPR 2022, tables 1 and 2; Uddin and Xu, 2024, tables 1 and 2. The throughputs are those of
the authors' programs, measured on two CPU cores at 32^3.
"""

from __future__ import annotations

Scores = dict[str, float]


def _harmony(sap: float, p: float) -> Scores:
    # The first paper compares spaces for models with two codes, and the two best dimensions for the others.
    return {"sap": sap, "sap_spaces": sap, "p": p, "p1": p}


def _images(d_cc: float, d_cz: float, sap: float) -> Scores:
    return {"d_cc": d_cc, "d_cz": d_cz, "sap_c": _signed(sap, d_cc, d_cz)}


def _protein(d_cc: float, d_cz: float, sap_c: float, d_zz: float, d_zc: float, sap_z: float) -> Scores:
    return _images(d_cc, d_cz, sap_c) | {"d_zz": d_zz, "d_zc": d_zc, "sap_z": _signed(sap_z, d_zz, d_zc)}


def _signed(printed: float, first: float, second: float) -> float:
    return printed if first >= second else -printed


PUBLISHED: dict[str, dict[str, Scores]] = {
    "five-100": {"harmony": _harmony(0.494, 0.996), "spatial-vae": _harmony(0.409, 0.997)},
    "five-0.1": {"harmony": _harmony(0.384, 0.861), "spatial-vae": _harmony(0.382, 0.858)},
    "five-0.05": {"harmony": _harmony(0.169, 0.63), "spatial-vae": _harmony(0.286, 0.65)},
    "five-0.03": {"harmony": _harmony(0.064, 0.527), "spatial-vae": _harmony(0.013, 0.478)},
    "five-0.01": {"harmony": _harmony(0.003, 0.47), "spatial-vae": _harmony(0.009, 0.46)},
    "mnist-affine-one": {
        "pca": _harmony(0.065, 0.486),
        "fastica": _harmony(0.099, 0.500),
        "beta-vae": _harmony(0.017, 0.46),
        "beta-tcvae": _harmony(0.001, 0.356),
        "spatial-vae": _harmony(0.002, 0.359),
        "deforming-autoencoder": _harmony(0.25, 0.92),
        "vitae": _harmony(0.731, 0.828),
        "harmony": _harmony(0.55, 0.944),
    },
    "mnist": {
        "spatial-vae": _images(0.81, 0.28, 0.53),
        "harmony": _images(0.82, 0.31, 0.51),
        "simclr": _images(0.58, 0.60, 0.02),
        "simclr-generative": _images(0.53, 0.67, 0.14),
        "vae-two-spaces": _images(0.63, 0.63, 0.0),
        "vitae": _images(0.77, 0.32, 0.45),
        "dualcontrast-no-content-pairs": _images(0.87, 0.21, 0.66),
        "dualcontrast-no-transform-pairs": _images(0.79, 0.85, 0.06),
        "dualcontrast": _images(0.89, 0.31, 0.58),
    },
    "linemod": {
        "spatial-vae": _images(0.95, 0.32, 0.63),
        "harmony": _images(0.90, 0.56, 0.34),
        "simclr": _images(0.62, 0.40, 0.22),
        "simclr-generative": _images(0.61, 0.79, 0.18),
        "vae-two-spaces": _images(0.87, 0.87, 0.0),
        "vitae": _images(0.92, 0.90, 0.02),
        "dualcontrast-no-content-pairs": _images(0.86, 0.31, 0.55),
        "dualcontrast-no-transform-pairs": _images(0.79, 0.86, 0.07),
        "dualcontrast": _images(0.95, 0.48, 0.47),
    },
    "trio": {
        "spatial-vae": _protein(0.69, 0.93, 0.24, 0.71, 0.57, 0.14),
        "harmony": _protein(0.95, 0.01, 0.94, 0.52, 0.90, 0.38),
        "simclr": _protein(0.39, 0.69, 0.30, 0.51, 0.52, 0.01),
        "simclr-generative": _protein(0.53, 0.59, 0.06, 0.55, 0.54, 0.01),
        "vae-two-spaces": _protein(0.79, 0.82, 0.03, 0.85, 0.85, 0.0),
        "dualcontrast-no-content-pairs": _protein(0.93, 0.81, 0.13, 0.78, 0.81, 0.03),
        "dualcontrast-no-transform-pairs": _protein(0.99, 0.86, 0.13, 0.86, 0.63, 0.23),
        "dualcontrast": _protein(1.00, 0.56, 0.44, 0.86, 0.64, 0.22),
    },
    "augmentation": {
        "rotation": {"d_cz": 0.48, "d_cc": 0.95},
        "translation": {"d_cz": 0.65, "d_cc": 0.98},
        "scale": {"d_cz": 0.52, "d_cc": 0.91},
        "contrast": {"d_cz": 0.51, "d_cc": 0.93},
        "saturation": {"d_cz": 0.71, "d_cc": 0.86},
        "hue": {"d_cz": 0.61, "d_cc": 0.88},
        "blur": {"d_cz": 0.47, "d_cc": 0.92},
    },
    "throughput": {"harmony-32": {"particles_per_second": 21.5}, "dualcontrast-32": {"particles_per_second": 6.8}},
}
"""Table -> row -> score, as `metrics.CodeScores` names them."""
