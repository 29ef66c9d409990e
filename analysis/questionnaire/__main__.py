"""python -m analysis.questionnaire"""

from analysis.questionnaire import Config, main

__all__ = ["Config", "main"]

if __name__ == "__main__":
    main()
