"""python -m analysis.capacity_report"""

from analysis.capacity_report import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
