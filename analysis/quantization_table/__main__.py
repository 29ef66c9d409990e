"""python -m analysis.quantization_table"""

from analysis.quantization_table import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
