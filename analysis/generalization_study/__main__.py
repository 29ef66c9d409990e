"""python -m analysis.generalization_study"""

from analysis.generalization_study import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
