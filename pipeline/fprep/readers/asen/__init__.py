"""Reader for ASEN's text layout of FashionAI and K-Fashion."""
