"""python -m analysis.description_length"""

from analysis.description_length import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
