"""python -m analysis.sizing"""

from analysis.sizing import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
