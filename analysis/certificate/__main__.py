"""python -m analysis.certificate"""

from analysis.certificate import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
