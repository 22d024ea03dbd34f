"""The code of an exported bundle: it is copied into its folder scripts/ and needs MONAI, nibabel and SciPy alone."""
