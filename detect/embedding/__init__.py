"""Who is in a picture: galleries of vectors, verification of two pictures, identification among many."""
