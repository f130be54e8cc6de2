"""Where the DeepFashion benchmarks come from, as their readers declare it."""

PAPER = "Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations, CVPR 2016"
LICENSE = "non-commercial research and educational purposes only (README of the DeepFashion benchmarks)"
CITATION = (
    "@inproceedings{liu2016deepfashion, title={DeepFashion: Powering Robust Clothes Recognition and Retrieval with "
    "Rich Annotations}, author={Liu, Ziwei and Luo, Ping and Qiu, Shi and Wang, Xiaogang and Tang, Xiaoou}, "
    "booktitle={CVPR}, year={2016}}"
)
