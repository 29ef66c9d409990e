"""python -m analysis.data_requirement"""

from analysis.data_requirement import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
