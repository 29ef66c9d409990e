"""The columns of the sizing experiment's tables."""

from capacity.columns import KEY, Column

SETS = (
    Column("dataset", "data set", importance=KEY),
    Column("rows", "rows", style=",", importance=4),
    Column("features", "features", style=",", importance=4),
    Column("classes", "classes", style=",", importance=4),
    Column("thresholds", "label changes", style=",", importance=3),
    Column("best", "best", style=",", importance=2),
    Column("adequate", "adequate", style=",", importance=9),
    Column("foretold", "foretold", style=",.0f", importance=8),
    Column("low", "from", style=",.0f", importance=5),
    Column("high", "to", style=",.0f", importance=5),
    Column("stored", "stores its rows", style=",.0f", importance=1, missing="none"),
)
PREDICTORS = (
    Column("predictor", "predictor", importance=KEY),
    Column("rank", "rank correlation", style="+.2f", better="higher", importance=9),
    Column("rank_low", "from", style="+.2f", importance=5),
    Column("rank_high", "to", style="+.2f", importance=5),
    Column("octaves", "off", "octaves", style=".2f", better="lower", importance=8),
    Column("within_two", "within 2x", "%", factor=100, style=".0f", better="higher", importance=6),
    Column("gain", "nearer than 64 units", "octaves", style="+.2f", better="higher", importance=7),
    Column("regret", "regret", "points", factor=100, style="+.2f", better="lower", importance=7),
)
