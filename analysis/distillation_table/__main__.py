"""python -m analysis.distillation_table"""

from analysis.distillation_table import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
