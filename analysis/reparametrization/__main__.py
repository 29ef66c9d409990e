"""python -m analysis.reparametrization"""

from analysis.reparametrization import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
