"""python -m analysis.compression_frontier"""

from analysis.compression_frontier import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
