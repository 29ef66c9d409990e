"""python -m analysis.report"""

from analysis.report import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
