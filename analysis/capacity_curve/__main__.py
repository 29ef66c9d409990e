"""python -m analysis.capacity_curve"""

from analysis.capacity_curve import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
