"""The results that the paper reports on MVTec AD (its tables 1 to 4), all columns.

The numbers are from Wang et al. 2020, who took those of other methods from these publications:
CAVGA-Du (Venkataramanan et al. 2019), VAE with attention (Liu et al. 2020), AE-SSIM and AE-L2
(Bergmann et al. 2019), AnoGAN (Schlegl et al. 2017), CNNFD (Napolitano et al. 2018) and TI
(Boettger and Ulrich 2016). Some used
images at full size, and the budgets differ, so the numbers are for orientation.
"""

PROPOSED = "the paper's"

# One row per category; `-` if the paper has no number.
_TABLES = {
    # Table 1.
    "image_accuracy": """
                the_paper's CAVGA-Du AE-SSIM AE-L2 AnoGAN CNNFD TI
    carpet      .71 .73 .67 .50 .49 .63 .59
    grid        .91 .75 .69 .78 .51 .67 .50
    wood        .96 .85 .83 .74 .68 .84 .71
    leather     .96 .71 .46 .44 .52 .67 .50
    tile        .95 .70 .52 .77 .51 .71 .72
    bottle      .99 .89 .88 .80 .69 .53 -
    cable       .72 .63 .61 .56 .53 .61 -
    capsule     .68 .83 .61 .62 .58 .41 -
    hazelnut    .94 .84 .54 .88 .50 .49 -
    metal_nut   .83 .67 .54 .73 .50 .65 -
    pill        .68 .88 .60 .62 .62 .46 -
    screw       .80 .77 .51 .69 .35 .43 -
    toothbrush  .92 .91 .74 .98 .57 .57 -
    transistor  .73 .73 .52 .71 .67 .58 -
    zipper      .97 .87 .80 .80 .59 .54 -
    mean        .85 .78 .63 .71 .55 .59 .60
    """,
    # Table 2: PRO at the threshold, not AU-PRO.
    "pro": """
                the_paper's CAVGA-Du VAE_with_attention AE-SSIM AE-L2 AnoGAN CNNFD
    carpet      .47 .71 .10 .69 .38 .34 .20
    grid        .89 .32 .02 .88 .83 .04 .02
    wood        .53 .56 .14 .36 .29 .14 .47
    leather     .80 .76 .24 .71 .67 .34 .74
    tile        .36 .31 .23 .04 .23 .08 .14
    bottle      .52 .30 .27 .15 .22 .05 .07
    cable       .40 .37 .18 .01 .05 .01 .13
    capsule     .31 .25 .11 .09 .11 .04 .00
    hazelnut    .54 .44 .44 .00 .41 .02 .00
    metal_nut   .36 .39 .49 .01 .26 .00 .13
    pill        .24 .34 .18 .07 .25 .17 .00
    screw       .47 .42 .17 .03 .34 .01 .00
    toothbrush  .69 .54 .14 .08 .51 .07 .00
    transistor  .08 .30 .30 .01 .22 .08 .03
    zipper      .82 .20 .06 .10 .13 .01 .00
    mean        .50 .41 .20 .22 .33 .09 .13
    """,
    # Table 3.
    "pixel_auroc": """
                the_paper's VAE_with_attention AE-SSIM AE-L2 AnoGAN CNNFD
    carpet      .94 .78 .87 .59 .54 .72
    grid        .99 .73 .94 .90 .58 .59
    wood        .87 .77 .73 .73 .62 .91
    leather     .99 .95 .78 .75 .64 .87
    tile        .88 .80 .59 .51 .50 .93
    bottle      .95 .87 .93 .86 .86 .78
    cable       .95 .90 .82 .86 .78 .79
    capsule     .93 .74 .94 .88 .84 .84
    hazelnut    .95 .98 .97 .95 .87 .72
    metal_nut   .91 .94 .89 .86 .76 .82
    pill        .95 .83 .91 .85 .87 .68
    screw       .96 .97 .96 .96 .80 .87
    toothbrush  .97 .94 .92 .93 .90 .77
    transistor  .91 .93 .90 .86 .80 .66
    zipper      .98 .78 .88 .77 .78 .76
    mean        .94 .86 .87 .82 .74 .78
    """,
    # Table 4, left of each stroke.
    "image_f1": """
                the_paper's AE-SSIM AE-L2
    carpet      .88 .87 .54
    grid        .97 .90 .92
    wood        .97 .88 .64
    leather     .98 .81 .76
    tile        .98 .09 .71
    bottle      .99 .92 .90
    cable       .82 .58 .29
    capsule     .68 .58 .39
    hazelnut    .93 .13 .89
    metal_nut   .93 .15 .83
    pill        .81 .43 .37
    screw       .81 .11 .56
    toothbrush  .97 .80 .98
    transistor  .68 .06 .60
    zipper      .99 .75 .77
    mean        .89 .54 .68
    """,
    # Table 4, right of each stroke.
    "pixel_f1": """
                the_paper's AE-SSIM AE-L2
    carpet      .33 .08 .03
    grid        .38 .02 .04
    wood        .42 .12 .24
    leather     .42 .02 .32
    tile        .30 .07 .07
    bottle      .55 .16 .26
    cable       .40 .02 .06
    capsule     .23 .08 .10
    hazelnut    .50 .44 .46
    metal_nut   .36 .03 .25
    pill        .20 .09 .25
    screw       .34 .06 .06
    toothbrush  .40 .14 .35
    transistor  .11 .07 .19
    zipper      .58 .29 .15
    mean        .37 .11 .20
    """,
}


def _parsed(table: str) -> dict[str, dict[str, float | None]]:
    head, *rows = (line.split() for line in table.strip().splitlines())
    columns = [name.replace("_", " ") for name in head]
    return {
        method: {row[0]: None if row[at] == "-" else float(row[at]) for row in rows}
        for at, method in enumerate(columns, start=1)
    }


# By metric, method and category; `mean` is the mean that the paper gives.
PUBLISHED: dict[str, dict[str, dict[str, float | None]]] = {
    metric: _parsed(table) for metric, table in _TABLES.items()
}
